from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

import numpy
from hypha_rpc import connect_to_server

from .command import run

__all__ = ["SERVICE_ID", "WEB_SERVICE_ID", "Provider"]

SERVICE_ID = "bench"
WEB_SERVICE_ID = "bench-web"
ARRAY_BYTES = 10_000_000


class Provider:
    """
    A process of its own that offers what the benchmarks call: a service, and a web application.

    It ends when its standard input does, so it cannot outlive the benchmark that started it.

    """

    def __init__(self, process: asyncio.subprocess.Process, announced: dict[str, str]) -> None:
        self._process = process
        self.workspace = announced["workspace"]
        self.token = announced["token"]
        self.service_id = announced["service_id"]

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, url: str, *, timeout_s: float = 60) -> Provider:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.provider",
            "--url",
            url,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await process.stdout.readline()
            return cls(process, json.loads(line))
        except (TimeoutError, ValueError):
            process.kill()
            await process.wait()
            raise RuntimeError("the service provider could not register its service") from None

    async def stop(self, *, timeout_s: float = 10) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def service() -> dict[str, Any]:
    array = numpy.arange(ARRAY_BYTES // 4, dtype="float32")

    def echo(value: Any) -> Any:
        return value

    def add(a: int, b: int) -> int:
        return a + b

    def take(value: Any) -> int:
        return int(value.nbytes)

    def give() -> Any:
        return array

    return {
        "id": SERVICE_ID,
        "config": {"visibility": "public"},
        "echo": echo,
        "add": add,
        "take": take,
        "give": give,
    }


async def answer(args: dict[str, Any]) -> None:
    """Answer as a bare ASGI application: ``3`` to a request, and to a websocket what it sends."""
    receive, send = args["receive"], args["send"]
    if args["scope"]["type"] == "http":
        headers = [[b"content-type", b"text/plain"], [b"content-length", b"1"]]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"3"})
        return
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})


async def main(url: str) -> None:
    server = await connect_to_server({"server_url": url})
    info = await server.register_service(service())
    web = {"id": WEB_SERVICE_ID, "type": "asgi", "config": {"visibility": "public"}, "serve": answer}
    await server.register_service(web)
    token = await server.generate_token({"permission": "read_write", "expires_in": 3600})
    announced = {"workspace": server.config.workspace, "token": token, "service_id": info["id"]}
    sys.stdout.write(json.dumps(announced) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.disconnect()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Offer the benchmark service until standard input ends.")
    parser.add_argument("--url", required=True)
    run(main(parser.parse_args().url))
