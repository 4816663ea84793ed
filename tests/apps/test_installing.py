from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from tests.fixtures.app_worker import app_worker

from .conftest import ConnectUser

MANIFEST = {"name": "Greeter", "type": "custom", "version": "1.0.0", "shelf": "upper"}


async def test_an_app_is_installed_tried_and_committed(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    told: list[dict[str, str]] = []
    async with app_worker(server) as worker:
        manifest = await apps.install(
            "print('hello')", MANIFEST, "greeter", files=[{"name": "data.json", "content": {"a": 1}, "format": "json"}],
            progress_callback=told.append,
        )  # fmt: skip
        assert worker.started == worker.stopped
        assert await apps.list_running() == []
    workspace = server.config.workspace
    assert manifest["id"] == "greeter"
    assert manifest["shelf"] == "upper"
    assert manifest["entry_point"] == "source"
    assert manifest["source_hash"].startswith("Qm")
    assert [service["id"] for service in manifest["services"]] == [f"{workspace}/*:default"]
    assert manifest["services"][0]["config"]["visibility"] == "public"
    assert manifest["service_ids"] == [f"{workspace}/*:default"]
    info = await apps.get_app_info("greeter")
    assert info["type"] == "application"
    assert info["parent_id"] == f"{workspace}/applications"
    assert info["staging"] is None
    assert info["manifest"] == manifest
    assert await apps.list_apps() == [manifest]
    assert {file["name"] for file in await apps.list_files("greeter")} == {"source", "data.json"}
    assert await apps.read_file("greeter", "source") == "print('hello')"
    assert await apps.read_file("greeter", "data.json", format="json") == {"a": 1}
    assert await apps.read_file("greeter", "source", format="binary") == "cHJpbnQoJ2hlbGxvJyk="
    assert {entry["type"] for entry in told} <= {"info", "success", "warning", "error"}
    assert {"type": "success", "message": "Installation of greeter is complete"} in told


async def test_an_app_gets_a_name_and_may_be_named_by_its_worker(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")

    async def serve(client: Any, config: Any) -> None:
        await client.register_service({"id": "default", "name": "Served", "description": "Serves.", "ping": lambda: 1})

    async with app_worker(server, behaviour=serve):
        manifest = await apps.install("x", {"type": "custom"})
    assert manifest["name"] == "Served"
    assert manifest["description"] == "Serves."
    assert [app["id"] for app in await apps.list_apps()] == [manifest["id"]]


async def test_nothing_is_left_of_an_app_that_does_not_start(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")

    async def fail(client: Any, config: Any) -> None:
        raise RuntimeError("no luck")

    async with app_worker(server, behaviour=fail):
        with pytest.raises(RemoteException, match=r"Failed to install app 'unlucky': .*no luck"):
            await apps.install("x", MANIFEST, "unlucky")
        with pytest.raises(RemoteException, match=r"Failed to get app info for unlucky: .* does not exist"):
            await apps.get_app_info("unlucky", stage=True)
        await apps.install("x", MANIFEST, "unlucky", stage=True)
        with pytest.raises(RemoteException, match=r"Failed to install app 'unlucky'"):
            await apps.commit_app("unlucky")
        with pytest.raises(RemoteException, match="does not exist"):
            await apps.get_app_info("unlucky", stage=True)
        assert await apps.list_running() == []


async def test_a_staged_app_runs_when_it_is_committed(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        manifest = await apps.install("x", MANIFEST, "staged", stage=True)
        assert worker.started == []
        assert manifest["services"] is None
        assert await apps.list_apps() == []
        info = await apps.get_app_info("staged", stage=True)
        assert {"_intent": "new_version"} in info["staging"]
        assert {"path": "source"} in info["staging"]
        assert await apps.read_file("staged", "source", stage=True) == "x"
        assert [file["name"] for file in await apps.list_files("staged")] == ["source"]
        with pytest.raises(RemoteException, match="has no committed version"):
            await apps.start("staged")
        session = await apps.start("staged", stage=True)
        committed = await apps.commit_app("staged", version="v7")
        assert committed["services"]
        assert set(worker.stopped) == set(worker.started)
        assert session["id"] in worker.stopped  # what ran of the draft
        assert [version["version"] for version in (await apps.get_app_info("staged"))["versions"]] == ["v7"]
        assert await apps.commit_app("staged") == committed  # nothing to do
        assert len(worker.started) == 2


async def test_an_app_is_overwritten_only_if_that_is_said(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await apps.install("old", MANIFEST, "twice", version="1", files=[{"name": "sub/old.txt", "content": "old"}])
        with pytest.raises(RemoteException, match=r"FileExistsError: .* already exists"):
            await apps.install("new", MANIFEST, "twice")
        session = await apps.start("twice")
        await apps.install("new", MANIFEST, "twice", overwrite=True, version="1")
        assert session["id"] in worker.stopped
        assert await apps.read_file("twice", "source") == "new"
        assert [file["name"] for file in await apps.list_files("twice")] == ["source"]
        await apps.install("newer", MANIFEST, "twice", overwrite=True)
        assert [version["version"] for version in (await apps.get_app_info("twice"))["versions"]] == ["1", "v1"]

        async def fail(client: Any, config: Any) -> None:
            raise RuntimeError("no luck")

        worker.behaviour = fail
        with pytest.raises(RemoteException, match="no luck"):
            await apps.install("broken", MANIFEST, "twice", overwrite=True)
        info = await apps.get_app_info("twice", stage=True)
        assert info["staging"] is None
        assert await apps.read_file("twice", "source") == "newer"


async def test_one_at_a_time_commits_an_app(connect_user: ConnectUser) -> None:
    servers = [await connect_user("hasty-user", gateway=gateway) for gateway in (0, 1)]
    controllers = [await server.get_service("public/server-apps") for server in servers]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def serve(client: Any, config: Any) -> None:
        begun.set()
        await go_on.wait()
        await client.register_service({"id": "default", "ping": lambda: 1})

    async with app_worker(servers[0], behaviour=serve) as worker:
        await controllers[0].install("x", MANIFEST, "hasty", stage=True)
        first = asyncio.ensure_future(controllers[0].commit_app("hasty"))
        await begun.wait()
        for call in (
            controllers[1].commit_app("hasty"), controllers[1].install("y", MANIFEST, "hasty", overwrite=True),
        ):  # fmt: skip
            with pytest.raises(RemoteException, match="is being installed or committed already"):
                await call
        go_on.set()
        assert (await first)["services"]
        assert len(worker.started) == 1
        await controllers[1].install("y", MANIFEST, "hasty", overwrite=True)
        assert await controllers[0].read_file("hasty", "source") == "y"


async def test_a_worker_compiles_what_it_will_run(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    given: list[Any] = []
    told: list[dict[str, str]] = []

    async def compile_app(manifest: Any, files: Any, config: Any) -> Any:
        given.append((manifest, files, config))
        await config["progress_callback"]({"type": "info", "message": "compiling"})
        if manifest["name"] == "bad":
            raise ValueError("cannot be compiled")
        return {"entry_point": "main.bin"}, [{"name": "main.bin", "content": "AAEC", "format": "base64"}]

    async with app_worker(server, compile=compile_app):
        worker_id = f"{server.config.client_id}:app-worker"
        manifest = await apps.install("x", MANIFEST, "compiled", worker_id=worker_id, progress_callback=told.append)
        assert {"type": "info", "message": "compiling"} in told
        assert manifest["entry_point"] == "main.bin"
        assert manifest["name"] == "Greeter"
        assert [file["name"] for file in await apps.list_files("compiled")] == ["main.bin"]
        assert await apps.read_file("compiled", "main.bin", format="binary") == "AAEC"
        _, files, config = given[0]
        assert files == [{"name": "source", "path": "source", "content": "x", "format": "text"}]
        assert config["workspace"] == server.config.workspace
        with pytest.raises(RemoteException, match=r"Worker compilation failed: .*cannot be compiled"):
            await apps.install("x", {**MANIFEST, "name": "bad"}, "bad", progress_callback=told.append)
        with pytest.raises(RemoteException, match="does not support app type"):
            await apps.install("x", {**MANIFEST, "type": "other"}, worker_id=worker_id)
    assert [app["id"] for app in await apps.list_apps()] == ["compiled"]


async def test_all_apps_are_listed(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    artifacts = await server.get_service("public/artifact-manager")
    await artifacts.create(alias="applications", type="collection", manifest={"name": "Applications"})
    await asyncio.gather(
        *(
            artifacts.create(
                alias=f"app-{number}", type="application", parent_id="applications", manifest={"type": "x"}
            )
            for number in range(120)
        )
    )
    assert {app["id"] for app in await apps.list_apps()} == {f"app-{number}" for number in range(120)}


async def test_large_files_are_stored(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    data = bytes(range(256)) * 8 * 1024  # 2 MiB
    async with app_worker(server):
        await apps.install("x", MANIFEST, "large", files=[{"name": "data.bin", "content": data}])
    sizes = {file["name"]: file["size"] for file in await apps.list_files("large")}
    assert sizes == {"source": 1, "data.bin": len(data)}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"manifest": {"type": "nobody"}}, "WorkerNotFoundError: No server app worker found for app type: nobody"),
        ({"manifest": {"type": "application"}}, "should not be application or None"),
        ({"manifest": {"name": "x"}}, "should not be application or None"),
        ({"manifest": {**MANIFEST, "services": []}}, "fields are not allowed"),
        ({"manifest": {**MANIFEST, "source_hash": "Qm"}}, "verification failed"),
        ({"manifest": MANIFEST, "config": MANIFEST}, "Cannot specify both"),
        ({"manifest": MANIFEST, "app_id": "a b"}, "is not a valid string"),
        ({"manifest": MANIFEST, "files": [{"content": "x"}]}, "must have 'name' or 'path'"),
        ({"manifest": MANIFEST, "files": [{"name": "x", "content": "x", "format": "tar"}]}, "Unsupported file format"),
        ({"manifest": MANIFEST, "stop_after_inactive": 5}, "at least 10 seconds"),
        ({"manifest": {**MANIFEST, "daemon": True}, "stop_after_inactive": 20}, "Daemon apps should not have"),
        ({"manifest": {**MANIFEST, "name": 1}}, "'name' must be a string"),
        ({}, "does not say of which type"),
        ({"source": None}, "Source is missing"),
        ({"source": "http://example.org/x.html"}, "Only secured https urls are allowed"),
        ({"source": "https://127.0.0.1/x.imjoy.html"}, "not on the public internet"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_runs(
    connect_user: ConnectUser, arguments: dict[str, Any], error: str
) -> None:
    server = await connect_user("careless-user")
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        with pytest.raises(RemoteException, match=error):
            await apps.install(**{"source": "x", **arguments})
        assert worker.started == []
    assert await apps.list_apps() == []
