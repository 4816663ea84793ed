from __future__ import annotations

import argparse
import asyncio
import time

from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .peer import Peer
from .processes import ProcessTree

__all__ = ["measure_idle"]


async def measure_idle(arguments: argparse.Namespace) -> dict[str, object]:
    server = ProcessTree(arguments.pid) if arguments.pid else None
    peers: list[Peer] = []
    slots = asyncio.Semaphore(arguments.concurrency)

    async def connect() -> None:
        async with slots:
            peers.append(await Peer.connect(arguments.url, read_buffer=1024))

    before = server.pss_by_role() if server else {}
    try:
        with CpuWindow(server) as window:
            await asyncio.gather(*(connect() for _ in range(arguments.connections)))
        await asyncio.sleep(arguments.settle)
        after = server.pss_by_role() if server else {}
        lost = sum(peer.lost.done() for peer in peers)
        started = time.perf_counter()
    finally:
        await asyncio.gather(*(peer.close() for peer in peers))
    if lost:
        raise RuntimeError(f"the server closed {lost} idle connections")
    count = arguments.connections
    return {
        "handshakes": {
            "count": count,
            "concurrency": arguments.concurrency,
            "handshakes_per_s": round(count / window.elapsed_s, 1),
            "server_cpu_us_per_handshake": round(window.server_s / count * 1e6, 1),
            "cpu": window.report(),
        },
        "memory": {
            "connections": count,
            "KiB_per_connection": {role: round((after[role] - before.get(role, 0)) / count, 2) for role in after},
            "KiB_per_connection_total": round((sum(after.values()) - sum(before.values())) / count, 2),
        },
        "close_s": round(time.perf_counter() - started, 3),
    }


async def main(arguments: argparse.Namespace) -> None:
    emit("idle", await measure_idle(arguments), url=arguments.url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Raw handshakes per second, and what an idle connection weighs.")
    add_server_arguments(parser)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--settle", type=float, default=3.0, help="seconds between the last handshake and the reading")
    run(main(parser.parse_args()))
