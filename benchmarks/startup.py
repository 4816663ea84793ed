from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from .command import add_kind_arguments, emit, kinds_of
from .processes import ProcessTree
from .server_kinds import ServerKind
from .server_process import start_server

__all__ = ["measure_startup"]


def measure_startup(kind: ServerKind, *, warm_starts: int, settle_s: float) -> dict[str, object]:
    """Start on an empty data directory, then again on what the first start left there."""
    with tempfile.TemporaryDirectory(prefix="bench-") as data_dir:
        with start_server(kind, Path(data_dir)) as server:
            first_s = server.ready_s
        warm_s: list[float] = []
        memory: dict[str, float] = {}
        for _ in range(warm_starts):
            with start_server(kind, Path(data_dir)) as server:
                warm_s.append(server.ready_s)
                time.sleep(settle_s)
                memory = ProcessTree([server.pid]).pss_by_role()
    return {
        "first_s": round(first_s, 3),
        "warm_s": [round(seconds, 3) for seconds in warm_s],
        "warm_median_s": round(statistics.median(warm_s), 3),
        "memory_MiB": {role: round(kib / 1024, 1) for role, kib in memory.items()},
        "memory_total_MiB": round(sum(memory.values()) / 1024, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time from start to readiness, and memory of the idle server.")
    add_kind_arguments(parser)
    parser.add_argument("--server", default="hub")
    parser.add_argument("--warm-starts", type=int, default=3)
    parser.add_argument("--settle", type=float, default=5.0, help="seconds of idleness before memory is read")
    arguments = parser.parse_args()
    chosen = kinds_of(arguments)[arguments.server]
    emit(
        "startup",
        {arguments.server: measure_startup(chosen, warm_starts=arguments.warm_starts, settle_s=arguments.settle)},
    )
