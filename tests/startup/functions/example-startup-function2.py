"""A startup function that tells about the server it was given."""

import asyncio
import os
import sys
import uuid

import beside
from hypha_rpc.utils.launch import launch_external_services


async def hypha_startup(server):
    run = str(uuid.uuid4())
    heard = []
    server.on("heard", lambda event: heard.append(event["data"]))
    await server.subscribe(["heard"])

    def no_store():
        texts = []
        for ask in (lambda: server["store"], lambda: server.store):
            try:
                ask()
            except AttributeError as error:
                texts.append(str(error))
        return texts

    async def acting_as(user, workspace):
        async with server.get_workspace_interface(user, workspace, client_id="acting") as client:
            registered = await client.register_service({"id": "made", "f": lambda: 1})
            return {"id": registered.id, "user": client.config.user["id"], "echo": await client.echo("x")}

    async def launch():
        command = f"{sys.executable} launched.py {{server_url}} {{workspace}} {{token}}"
        process = await launch_external_services(server, command, check_services=["launched"], timeout=20)
        try:
            service = await server.get_service("public/launched")
            return await service.hello()
        finally:
            await process.kill()

    async def emit():
        await server.emit({"type": "heard", "to": "*", "data": run})
        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.01)
        return heard.pop() == run

    service = {
        "id": "second",
        "config": {"visibility": "public"},
        "about": lambda name: server.config[name],
        "acting_as": acting_as,
        "beside": lambda: beside.VALUE,
        "emit": emit,
        "environment": lambda: {
            name: value for name, value in os.environ.items() if "HYPHA" in name or "AUTHOR" in name
        },
        "items": lambda: [
            server["config"]["workspace"],
            callable(server["register_service"]),
            callable(server.rpc.emit),
        ],
        "launch": launch,
        "no_store": no_store,
        "point": lambda: 1 + 2j,
        "root": lambda: server.get_root_user().model_dump(),
        "run": lambda: run,
    }
    server.register_codec({"name": "point", "type": complex, "encoder": lambda point: [point.real, point.imag]})
    await server.register_service(service)
    await server.register_service(service, overwrite=True)
