from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from .command import add_kind_arguments, emit, kinds_of
from .comparison import Comparison
from .ratios import RATIOS, TWO_GATEWAY_RATIOS, Ratio
from .server_kinds import ServerKind
from .server_process import ServerProcess, start_server
from .startup import measure_startup

__all__ = ["compare_gateways", "compare_servers"]

SUITES: dict[str, list[str]] = {
    "frames": [],
    "wire": [],
    "rpc": [],
    "http_calls": [],
    "idle": ["--connections", "500"],  # the embedded store of the PyPI hub refuses the second thousand
}
# With a store, and only when asked for: it takes minutes, and another promise.
STORAGE_SUITES: dict[str, list[str]] = {"artifacts": ["--step", "calls", "--step", "bulk", "--mebibytes", "1024"]}
SUITE_LIMIT_S = 400
STORAGE_SUITE_LIMIT_S = 1800  # where a call takes half a second
REPOSITORY = Path(__file__).resolve().parent.parent

Reports = dict[str, list[dict[str, Any]]]


def run_suite(suite: str, server: ServerProcess, *options: str) -> dict[str, Any]:
    """Run a benchmark as a user would, in a process of its own."""
    module, *protocol = server.kind.suites.get(suite, [suite])
    target = ["--url", server.url, "--pid", str(server.pid)]
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *target, *protocol, *options],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=STORAGE_SUITE_LIMIT_S if suite in STORAGE_SUITES else SUITE_LIMIT_S,
    )
    if finished.returncode:
        raise RuntimeError(f"{suite} on {server.kind.name}: {finished.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


def compare_servers(kinds: list[ServerKind], suites: list[str], rounds: int) -> Comparison:
    """Every suite on a fresh server, so that nothing an earlier suite left behind weighs on it."""
    measured: list[Reports] = [defaultdict(list), defaultdict(list)]
    failures: list[str] = []
    for number in range(rounds):
        for suite in suites:
            # Rounds take turns in who comes first: the machine may get slower or faster meanwhile.
            for index in (0, 1) if number % 2 == 0 else (1, 0):
                note(f"round {number + 1}: {suite} on {kinds[index].name}")
                kind = kinds[index].with_storage() if suite in STORAGE_SUITES else kinds[index]
                options = {**SUITES, **STORAGE_SUITES}[suite]
                try:
                    with new_directory() as data_dir, start_server(kind, Path(data_dir)) as server:
                        measured[index][suite].append(run_suite(suite, server, *options))
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    failures.append(str(error))
                    note(f"failed: {error}")
    own, other = measured
    return Comparison(kinds[0].name, _other_name(kinds), own, other, _ratios(kinds), failures)


def compare_gateways(kind: ServerKind, rounds: int) -> Comparison:
    """Frames on one server with two gateways: to receivers on the other gateway, and on the same."""
    across: Reports = defaultdict(list)
    within: Reports = defaultdict(list)
    failures: list[str] = []
    for number in range(rounds):
        note(f"round {number + 1}: frames on two gateways of {kind.name}")
        try:
            with new_directory() as data_dir, start_server(kind, Path(data_dir), gateways=2) as server:
                within["frames"].append(run_suite("frames", server))
                across["frames"].append(run_suite("frames", server, "--peer-url", server.peer_url))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failures.append(str(error))
            note(f"failed: {error}")
    return Comparison("two gateways", "one gateway", across, within, TWO_GATEWAY_RATIOS, failures)


def new_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)


def note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _other_name(kinds: list[ServerKind]) -> str:
    """A server compared with itself shows what the machine's noise is worth."""
    return kinds[1].name if kinds[1].name != kinds[0].name else f"{kinds[1].name} again"


def _ratios(kinds: list[ServerKind]) -> list[Ratio]:
    """The promises are about the PyPI hub; with anything else the ratios are only figures."""
    if [kind.name for kind in kinds] == ["hub", "rival"]:
        return list(RATIOS)
    return [dataclasses.replace(ratio, at_least=None, at_most=None) for ratio in RATIOS]


def main(arguments: argparse.Namespace) -> None:
    kinds = kinds_of(arguments)
    pair = [kinds[arguments.server], kinds[arguments.rival]]
    results: dict[str, object] = {}
    if arguments.rounds:
        servers = compare_servers(pair, arguments.suite or list(SUITES), arguments.rounds)
        note("\n" + servers.table())
        results["servers"] = servers.report()
    if arguments.two_gateways:
        gateways = compare_gateways(pair[0], arguments.two_gateways)
        note("\n" + gateways.table())
        results["gateways"] = gateways.report()
    if arguments.startup:
        results["startup"] = {kind.name: measure_startup(kind, warm_starts=3, settle_s=5.0) for kind in pair}
    emit("compare", results, rounds=arguments.rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two servers in turn, the medians of their figures and the ratios.")
    add_kind_arguments(parser)
    parser.add_argument("--server", default="hub", choices=["hub", "rival", "crossbar"])
    parser.add_argument("--rival", default="rival", choices=["hub", "rival", "crossbar"])
    parser.add_argument("--rounds", type=int, default=3, help="0 leaves the comparison of servers out")
    parser.add_argument(
        "--suite",
        action="append",
        choices=[*SUITES, *STORAGE_SUITES],
        help="repeatable; default: every suite without files",
    )
    parser.add_argument(
        "--two-gateways", type=int, default=0, metavar="ROUNDS", help="frames across two gateways of --server"
    )
    parser.add_argument("--startup", action="store_true", help="also measure start time and memory of both")
    main(parser.parse_args())
