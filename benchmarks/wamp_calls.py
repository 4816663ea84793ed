from __future__ import annotations

import argparse

from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .processes import ProcessTree
from .stats import latency_ms, throughput, time_each
from .wamp_peer import WampPeer

__all__ = ["measure_wamp_calls"]

PROCEDURE = "bench.echo"


async def measure_wamp_calls(url: str) -> dict[str, object]:
    """What the step ``calls`` of benchmarks.wire measures, on a WAMP router."""
    callee = await WampPeer.connect(url)
    caller = await WampPeer.connect(url)
    try:
        await callee.register(PROCEDURE)
        samples = await time_each(lambda number: caller.call(PROCEDURE, number), count=1000)
        concurrent = await throughput(lambda number: caller.call(PROCEDURE, number))
    finally:
        await caller.close()
        await callee.close()
    return {**latency_ms(samples), **concurrent}


async def main(arguments: argparse.Namespace) -> None:
    server = ProcessTree(arguments.pid) if arguments.pid else None
    with CpuWindow(server) as window:
        calls = await measure_wamp_calls(arguments.url)
    emit("wamp_calls", {"calls": {**calls, "cpu": window.report()}}, url=arguments.url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Calls between two sessions of a WAMP router.")
    add_server_arguments(parser)
    run(main(parser.parse_args()))
