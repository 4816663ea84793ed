from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy
from hypha_rpc import connect_to_server

from .burst import measure_burst
from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .processes import ProcessTree
from .provider import ARRAY_BYTES, Provider
from .stats import latency_ms, throughput, time_each

__all__ = ["measure_rpc"]

STEP_LIMIT_S = 120

Report = dict[str, Any]


async def measure_rpc(arguments: argparse.Namespace) -> dict[str, Report]:
    server = ProcessTree(arguments.pid) if arguments.pid else None
    url, workers = arguments.url, arguments.workers
    bursts = {
        "connects": ("connect", arguments.connects, 50),
        "registrations": ("registration", arguments.registrations, 32),
    }
    results: dict[str, Report] = {}
    for name, (action, total, concurrency) in bursts.items():
        with CpuWindow(server) as window:
            burst = await measure_burst(action, url, total=total, concurrency=concurrency, workers=workers)
        results[name] = {**burst, "cpu": window.report(total)}
        await asyncio.sleep(1)  # what the server cleans up must not weigh on the next step
    provider = await Provider.start(url)
    try:
        for name, step in _steps(provider).items():
            async with asyncio.timeout(STEP_LIMIT_S):
                results[name] = await _measure_step(step, provider, url, server)
    finally:
        await provider.stop()
    return results


async def _measure_step(
    step: Callable[[Any], Awaitable[Report]], provider: Provider, url: str, server: ProcessTree | None
) -> Report:
    client = await connect_to_server({"server_url": url, "workspace": provider.workspace, "token": provider.token})
    with CpuWindow(server, providers=ProcessTree([provider.pid])) as window:
        report = await step(client)
    await client.disconnect()
    return {**report, "cpu": window.report()}


def _steps(provider: Provider) -> dict[str, Callable[[Any], Awaitable[Report]]]:
    service_id = provider.service_id
    return {
        "register": measure_register,
        "get_service": lambda client: measure_get_service(client, service_id),
        "list_services_100": measure_list_services,
        "call": lambda client: measure_call(client, service_id),
        "calls_concurrent": lambda client: measure_concurrent_calls(client, service_id),
        "array_10MB": lambda client: measure_arrays(client, service_id),
    }


async def measure_register(client: Any) -> Report:
    return latency_ms(
        await time_each(lambda number: client.register_service({"id": f"registered-{number}", "echo": _echo}), count=50)
    )


async def measure_get_service(client: Any, service_id: str) -> Report:
    return latency_ms(await time_each(lambda _: client.get_service(service_id), count=300))


async def measure_list_services(client: Any) -> Report:
    for number in range(100):
        await client.register_service({"id": f"listed-{number:03}", "echo": _echo})
    listed = [service["id"] for service in await client.list_services()]
    if sum(":listed-" in service_id for service_id in listed) != 100:
        raise RuntimeError(f"the hundred services are not in the list of {len(listed)}")
    return {"services": len(listed), **latency_ms(await time_each(lambda _: client.list_services(), count=100))}


async def measure_call(client: Any, service_id: str) -> Report:
    service = await client.get_service(service_id)
    return latency_ms(await time_each(lambda number: service.add(number, 1), count=1000))


async def measure_concurrent_calls(client: Any, service_id: str) -> Report:
    service = await client.get_service(service_id)
    return await throughput(lambda number: service.add(number, 1), seconds=4)


async def measure_arrays(client: Any, service_id: str) -> Report:
    service = await client.get_service(service_id)
    array = numpy.arange(ARRAY_BYTES // 4, dtype="float32")
    if await service.take(array) != array.nbytes or not numpy.array_equal(await service.give(), array):
        raise RuntimeError("the array was changed on the way")
    sent = await time_each(lambda _: service.take(array), count=10, warmup=0)
    received = await time_each(lambda _: service.give(), count=10, warmup=0)
    return {
        "send_p50_ms": latency_ms(sent)["p50_ms"],
        "receive_p50_ms": latency_ms(received)["p50_ms"],
        "send_MB_per_s": round(len(sent) * array.nbytes / sum(sent) / 1e6, 1),
        "receive_MB_per_s": round(len(received) * array.nbytes / sum(received) / 1e6, 1),
    }


def _echo(value: Any) -> Any:
    return value


async def main(arguments: argparse.Namespace) -> None:
    emit("rpc", await measure_rpc(arguments), url=arguments.url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What a user of the hypha-rpc client sees.")
    add_server_arguments(parser)
    parser.add_argument("--connects", type=int, default=200, help="clients of the connect burst")
    parser.add_argument("--registrations", type=int, default=400, help="services of the registration burst")
    parser.add_argument("--workers", type=int, default=2, help="processes of each burst")
    run(main(parser.parse_args()))
