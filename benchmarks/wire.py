from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack

from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .processes import ProcessTree
from .stats import latency_ms, throughput, time_each
from .wire_client import WireClient, value_of

__all__ = ["measure_wire"]

STEP_LIMIT_S = 120

Report = dict[str, Any]


async def measure_connects(url: str, *, total: int, concurrency: int = 50) -> Report:
    slots = asyncio.Semaphore(concurrency)
    clients: list[WireClient] = []

    async def connect() -> None:
        async with slots:
            client = await WireClient.connect(url)
            clients.append(client)
            await client.sign_in()

    started = time.perf_counter()
    try:
        await asyncio.gather(*(connect() for _ in range(total)))
        seconds = time.perf_counter() - started
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    return {"connects_per_s": round(total / seconds, 1), "operations": total, "concurrency": concurrency}


async def measure_registrations(url: str, *, total: int = 400, concurrency: int = 32) -> Report:
    slots = asyncio.Semaphore(concurrency)

    async def register(number: int) -> None:
        async with slots:
            await client.fetch_manager()  # as the hypha-rpc client does before each registration
            await client.register(f"registered-{number}")

    client = await _signed_in(url)
    try:
        started = time.perf_counter()
        await asyncio.gather(*(register(number) for number in range(total)))
        seconds = time.perf_counter() - started
    finally:
        await client.close()
    return {"registrations_per_s": round(total / seconds, 1), "operations": total, "concurrency": concurrency}


async def measure_get_service(url: str) -> Report:
    provider = await _signed_in(url)
    provider.serve("found", "echo", _first)
    client = await _signed_in(url)
    try:
        await provider.register("found", visibility="public")
        target = f"{provider.address}:found"
        await client.call("services.default.get_service", target)
        samples = await time_each(lambda _: client.call("services.default.get_service", target), count=300)
    finally:
        await asyncio.gather(client.close(), provider.close())
    return latency_ms(samples)


async def measure_list_services(url: str) -> Report:
    client = await _signed_in(url)
    try:
        for number in range(100):
            await client.register(f"listed-{number:03}")
        listed = value_of(await client.call("services.default.list_services"))
        if len(listed) != 101:  # the hundred and the client's own built-in service
            raise RuntimeError(f"listed {len(listed)} services instead of 101")
        samples = await time_each(lambda _: client.call("services.default.list_services"), count=100)
    finally:
        await client.close()
    return {**latency_ms(samples), "answer_bytes": len(msgpack.packb(listed))}


async def measure_calls(url: str) -> Report:
    """A call between two clients: two frames are routed, the call and its answer."""
    provider = await _signed_in(url)
    provider.serve("found", "echo", _first)
    client = await _signed_in(url)

    def call(number: int) -> Awaitable[bytes]:
        return client.call("services.found.echo", number, to=provider.address)

    try:
        samples = await time_each(call, count=1000)
        concurrent = await throughput(call)
    finally:
        await asyncio.gather(client.close(), provider.close())
    return {**latency_ms(samples), **concurrent}


async def _signed_in(url: str) -> WireClient:
    client = await WireClient.connect(url)
    await client.sign_in()
    return client


def _first(args: list[Any], kwargs: dict[str, Any]) -> Any:
    return args[0]


async def measure_wire(arguments: argparse.Namespace) -> Report:
    server = ProcessTree(arguments.pid) if arguments.pid else None
    url = arguments.url
    steps: dict[str, Callable[[], Awaitable[Report]]] = {
        "connects": lambda: measure_connects(url, total=arguments.connects),
        "registrations": lambda: measure_registrations(url),
        "get_service": lambda: measure_get_service(url),
        "list_services_100": lambda: measure_list_services(url),
        "calls": lambda: measure_calls(url),
    }
    results: Report = {}
    for name in arguments.step or steps:
        with CpuWindow(server) as window:
            async with asyncio.timeout(STEP_LIMIT_S):
                measured = await steps[name]()
        results[name] = {**measured, "cpu": window.report(measured.get("operations"))}
        await asyncio.sleep(1)  # what the server cleans up must not weigh on the next step
    return results


async def main(arguments: argparse.Namespace) -> None:
    emit("wire", await measure_wire(arguments), url=arguments.url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The frames of a hypha-rpc client from a light load generator.")
    add_server_arguments(parser)
    parser.add_argument("--connects", type=int, default=200, help="clients of the connect burst")
    parser.add_argument("--step", action="append", help="repeatable; default: every step")
    run(main(parser.parse_args()))
