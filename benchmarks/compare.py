from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from .command import add_kind_arguments, emit, kinds_of
from .comparison import Comparison
from .ratios import TWO_GATEWAY_RATIOS
from .server_kinds import ServerKind
from .server_process import ServerProcess, start_server
from .startup import measure_startup

__all__ = ["compare"]

SUITES: dict[str, list[str]] = {
    "frames": [],
    "wire": [],
    "rpc": [],
    "http_calls": [],
    # No more connections than the rival's embedded store can hold.
    "idle": ["--connections", "500"],
}
SUITE_LIMIT_S = 400
REPOSITORY = Path(__file__).resolve().parent.parent

Reports = dict[str, list[dict[str, Any]]]


def run_suite(suite: str, server: ServerProcess, *options: str) -> dict[str, Any]:
    """Run a benchmark as a user would, in a process of its own."""
    module, *protocol = server.kind.suites.get(suite, [suite])
    target = ["--url", server.url, "--pid", str(server.pid)]
    command = [sys.executable, "-m", f"benchmarks.{module}", *target, *protocol, *options]
    finished = subprocess.run(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, timeout=SUITE_LIMIT_S, text=True
    )
    if finished.returncode:
        raise RuntimeError(f"{suite} on {server.kind.name} failed:\n{finished.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


def measure_suite(suite: str, kind: ServerKind, options: list[str], *, gateways: int = 1) -> dict[str, dict[str, Any]]:
    """One suite on a fresh server, so that nothing an earlier suite left behind weighs on it."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as data_dir,
        start_server(kind, Path(data_dir), gateways=gateways) as server,
    ):
        reports = {"one": run_suite(suite, server, *options)}
        if gateways > 1:
            reports["two"] = run_suite(suite, server, *options, "--peer-url", server.peer_url)
    return reports


def compare(arguments: argparse.Namespace) -> Comparison:
    kinds = kinds_of(arguments)
    names = [arguments.server, arguments.rival]
    measured: dict[str, Reports] = {name: defaultdict(list) for name in names}
    failures: list[str] = []
    for round_number in range(arguments.rounds):
        for suite in arguments.suite or SUITES:
            # Each round starts with the other server, in case the machine gets slower or faster meanwhile.
            for name in names if round_number % 2 == 0 else reversed(names):
                note(f"round {round_number + 1}: {suite} on {name}")
                try:
                    reports = measure_suite(suite, kinds[name], SUITES[suite])
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failures.append(str(error))
                    note(f"  failed: {error}")
                else:
                    measured[name][suite].append(reports["one"])
    return Comparison(names[0], names[1], measured[names[0]], measured[names[1]], failures)


def compare_gateways(kind: ServerKind, rounds: int) -> Comparison:
    """The frame suite on one server with two gateways, across both and within one."""
    two: Reports = defaultdict(list)
    one: Reports = defaultdict(list)
    failures: list[str] = []
    for round_number in range(rounds):
        note(f"round {round_number + 1}: frames across two gateways of {kind.name}")
        try:
            reports = measure_suite("frames", kind, [], gateways=2)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failures.append(str(error))
            note(f"  failed: {error}")
        else:
            one["frames"].append(reports["one"])
            two["frames"].append(reports["two"])
    return Comparison("two gateways", "one gateway", two, one, failures, ratios=TWO_GATEWAY_RATIOS)


def note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(arguments: argparse.Namespace) -> None:
    results: dict[str, object] = {}
    comparison = compare(arguments)
    note("\n" + comparison.table())
    results["servers"] = comparison.report()
    if arguments.two_gateways:
        gateways = compare_gateways(kinds_of(arguments)[arguments.server], arguments.rounds)
        note("\n" + gateways.table())
        results["gateways"] = gateways.report()
    if arguments.startup:
        results["startup"] = {
            name: measure_startup(kinds_of(arguments)[name], warm_starts=3, settle_s=5.0)
            for name in (arguments.server, arguments.rival)
        }
    emit("compare", results, rounds=arguments.rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two servers in turn, the medians of their figures and the ratios.")
    add_kind_arguments(parser)
    parser.add_argument("--server", default="hub")
    parser.add_argument("--rival", default="rival")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="repeatable; default: every suite")
    parser.add_argument("--two-gateways", action="store_true", help="also measure across two gateways of --server")
    parser.add_argument("--startup", action="store_true", help="also measure start time and memory of both")
    main(parser.parse_args())
