from __future__ import annotations

import argparse
from collections.abc import Sequence

from hypha.workers.command_line import Place, add_place_flags, run_worker
from hypha.workers.errors import WorkerError

from .hiding import hide_process
from .limits import MIB, Limits
from .worker import PythonEvalWorker

__all__ = ["main"]

_DEFAULT = Limits()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hypha.workers.python_eval",
        description="Run Python scripts for a Hypha server. Whoever may start apps there runs code here.",
    )
    add_place_flags(parser)
    group = parser.add_argument_group("limits of each script", "0: as much as there is")
    group.add_argument("--run-time", type=float, default=_DEFAULT.run_time_s, metavar="S")
    group.add_argument("--cpu-time", type=int, default=_DEFAULT.cpu_time_s, metavar="S")
    group.add_argument("--memory", type=int, default=_DEFAULT.memory_bytes // MIB, metavar="MIB")
    group.add_argument("--file-size", type=int, default=_DEFAULT.file_bytes // MIB, metavar="MIB")
    group.add_argument("--processes", type=int, default=_DEFAULT.processes, metavar="N")
    group.add_argument("--sessions", type=int, default=_DEFAULT.sessions, metavar="N", help="scripts at a time")
    parsed = parser.parse_args(arguments)
    limits = Limits(
        run_time_s=parsed.run_time, cpu_time_s=parsed.cpu_time, memory_bytes=parsed.memory * MIB,
        file_bytes=parsed.file_size * MIB, processes=parsed.processes, sessions=parsed.sessions,
    )  # fmt: skip
    try:
        place = Place.of(parsed)
    except WorkerError as error:
        parser.error(str(error))
    hide_process()
    worker = PythonEvalWorker(
        limits=limits, visibility=place.visibility, service_id=place.service_id, use_local_url=place.server_url
    )
    return run_worker(worker, place)
