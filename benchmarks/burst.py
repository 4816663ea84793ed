from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hypha_rpc import connect_to_server

from .command import run

__all__ = ["measure_burst"]

BURST_LIMIT_S = 120


async def measure_burst(action: str, url: str, *, total: int, concurrency: int, workers: int) -> dict[str, object]:
    """
    hypha-rpc clients in several processes connect, or register services, as fast as they can.

    The time is that from the first start to the last end over all processes.

    """
    share = ["--total", str(total // workers), "--concurrency", str(max(1, concurrency // workers))]
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *["-m", "benchmarks.burst", "--action", action, "--url", url, *share],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(workers)
    ]
    try:
        async with asyncio.timeout(BURST_LIMIT_S):
            await asyncio.gather(*map(_read_line, processes))  # every worker is prepared
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            spans = [json.loads(line) for line in await asyncio.gather(*map(_read_line, processes))]
            await asyncio.gather(*(process.communicate(b"") for process in processes))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    seconds = max(span["ended"] for span in spans) - min(span["started"] for span in spans)
    operations = sum(span["operations"] for span in spans)
    return {
        f"{action}s_per_s": round(operations / seconds, 2),
        "operations": operations,
        "concurrency": concurrency,
        "workers": workers,
        "seconds": round(seconds, 3),
    }


async def _read_line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def _work(arguments: argparse.Namespace) -> None:
    """One worker process: prepare, wait for the word, work, report, and leave when standard input ends."""
    clients: list[Any] = []
    slots = asyncio.Semaphore(arguments.concurrency)

    async def connect(number: int) -> None:
        clients.append(await connect_to_server({"server_url": arguments.url}))

    async def register(number: int) -> None:
        await clients[0].register_service({"id": f"burst-{number}", "echo": _echo})

    async def in_slot(action: Callable[[int], Awaitable[None]], number: int) -> None:
        async with slots:
            await action(number)

    if arguments.action == "registration":
        await connect(0)
    action = {"connect": connect, "registration": register}[arguments.action]
    _say("ready")
    sys.stdin.readline()
    started = time.monotonic()
    await asyncio.gather(*(in_slot(action, number) for number in range(arguments.total)))
    _say(json.dumps({"started": started, "ended": time.monotonic(), "operations": arguments.total}))
    # Clients stay connected until every process has finished: leaving is not part of the measurement.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.gather(*(client.disconnect() for client in clients))


def _echo(value: Any) -> Any:
    return value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One process of a burst; started by benchmarks.rpc.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--action", choices=["connect", "registration"], default="connect")
    parser.add_argument("--total", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=50)
    run(_work(parser.parse_args()))
