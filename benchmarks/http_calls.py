from __future__ import annotations

import argparse
import asyncio
import time

from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .http_connection import HttpConnection, get_request, post_request
from .processes import ProcessTree
from .provider import Provider
from .stats import latency_ms
from .wire_client import WireClient

__all__ = ["measure_requests"]

EXPECTED = b"3"


async def measure_requests(
    url: str,
    request: bytes,
    *,
    concurrency: int,
    seconds: float,
    server: ProcessTree | None,
    providers: ProcessTree | None,
) -> dict[str, object]:
    connections = [await HttpConnection.open(url) for _ in range(concurrency)]
    samples: list[float] = []

    async def call_until(connection: HttpConnection, deadline: float) -> None:
        while (started := time.perf_counter()) < deadline:
            status, body = await connection.request(request)
            if status != 200 or body.strip() != EXPECTED:
                raise RuntimeError(f"HTTP {status}: {body[:300]!r}")
            samples.append(time.perf_counter() - started)

    async def call_all(duration_s: float) -> None:
        deadline = time.perf_counter() + duration_s
        await asyncio.gather(*(call_until(connection, deadline) for connection in connections))

    try:
        await call_all(0.5)
        samples.clear()
        with CpuWindow(server, providers=providers) as window:
            await call_all(seconds)
    finally:
        for connection in connections:
            connection.close()
    return {
        "calls_per_s": round(len(samples) / window.elapsed_s, 1),
        "concurrency": concurrency,
        **latency_ms(samples),
        "cpu": window.report(),
        "server_cpu_us_per_call": round(window.server_s / len(samples) * 1e6, 1),
    }


async def main(arguments: argparse.Namespace) -> None:
    server = ProcessTree(arguments.pid) if arguments.pid else None
    results: dict[str, object] = {}
    provider = await Provider.start(arguments.url)
    try:
        results |= await _measure_both(arguments, provider.service_id, "", server, ProcessTree([provider.pid]))
    finally:
        await provider.stop()
    light = await _light_provider(arguments.url)
    try:
        results |= await _measure_both(arguments, f"{light.address}:light", "light_provider_", server, None)
    finally:
        await light.close()
    emit("http_calls", results, url=arguments.url)


async def _measure_both(
    arguments: argparse.Namespace,
    service_id: str,
    prefix: str,
    server: ProcessTree | None,
    providers: ProcessTree | None,
) -> dict[str, object]:
    workspace, service = service_id.split("/", 1)
    path = f"/{workspace}/services/{service}/add"
    requests = {
        "get": get_request(arguments.url, f"{path}?a=1&b=2"),
        "post": post_request(arguments.url, path, b'{"a": 1, "b": 2}'),
    }
    return {
        prefix + name: await measure_requests(
            arguments.url,
            request,
            concurrency=arguments.concurrency,
            seconds=arguments.seconds,
            server=server,
            providers=providers,
        )
        for name, request in requests.items()
    }


async def _light_provider(url: str) -> WireClient:
    """A provider in the process of the load generator that costs a tenth of a hypha-rpc one."""
    provider = await WireClient.connect(url)
    await provider.sign_in()
    provider.serve("light", "add", lambda args, kwargs: kwargs["a"] + kwargs["b"])
    await provider.register("light", visibility="public")
    return provider


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="HTTP calls of a registered function over keep-alive connections.")
    add_server_arguments(parser)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of each kind of request")
    run(main(parser.parse_args()))
