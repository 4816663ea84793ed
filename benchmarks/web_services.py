from __future__ import annotations

import argparse
import asyncio
import time

from websockets.asyncio.client import ClientConnection, connect

from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .http_calls import measure_requests
from .http_connection import get_request, post_request
from .processes import ProcessTree
from .provider import WEB_SERVICE_ID, Provider
from .stats import latency_ms

__all__ = ["measure_round_trips"]

MESSAGE = b"x" * 200


async def measure_round_trips(
    url: str, *, concurrency: int, seconds: float, server: ProcessTree | None, providers: ProcessTree
) -> dict[str, object]:
    """Messages to an application's websocket and back, one at a time on each of ``concurrency`` sockets."""
    sockets = [await connect(url, compression=None) for _ in range(concurrency)]
    samples: list[float] = []

    async def send_until(socket: ClientConnection, deadline: float) -> None:
        while (started := time.perf_counter()) < deadline:
            await socket.send(MESSAGE)
            if await socket.recv() != MESSAGE:
                raise RuntimeError("another message came back")
            samples.append(time.perf_counter() - started)

    async def send_all(duration_s: float) -> None:
        deadline = time.perf_counter() + duration_s
        await asyncio.gather(*(send_until(socket, deadline) for socket in sockets))

    try:
        await send_all(0.5)
        samples.clear()
        with CpuWindow(server, providers=providers) as window:
            await send_all(seconds)
    finally:
        for socket in sockets:
            await socket.close()
    return {
        "round_trips_per_s": round(len(samples) / window.elapsed_s, 1),
        "concurrency": concurrency,
        **latency_ms(samples),
        "cpu": window.report(),
        "server_cpu_us_per_round_trip": round(window.server_s / len(samples) * 1e6, 1),
    }


async def main(arguments: argparse.Namespace) -> None:
    server = ProcessTree(arguments.pid) if arguments.pid else None
    provider = await Provider.start(arguments.url)
    path = f"/{provider.workspace}/apps/{WEB_SERVICE_ID}/"
    options = {"concurrency": arguments.concurrency, "seconds": arguments.seconds, "server": server}
    requests = {
        "get": get_request(arguments.url, path),
        "post": post_request(arguments.url, path, MESSAGE, content_type="application/octet-stream"),
    }
    try:
        providers = ProcessTree([provider.pid])
        results: dict[str, object] = {
            name: await measure_requests(arguments.url, request, providers=providers, **options)
            for name, request in requests.items()
        }
        address = f"{arguments.url.rstrip('/').replace('http', 'ws', 1)}{path}"
        results["websocket"] = await measure_round_trips(address, providers=providers, **options)
    finally:
        await provider.stop()
    emit("web_services", results, url=arguments.url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Requests and websockets that a client's ASGI application answers.")
    add_server_arguments(parser)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of each kind of request")
    run(main(parser.parse_args()))
