from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.arena import Arena, arena
from tests.chaos.faults import FAULTS, Fault, Needs
from tests.chaos.ordeal import ordeal
from tests.chaos.report import Row, table, write_table
from tests.fixtures.link import why_none

_FAULT_S = 150.0  # for a fault and its judgement; whatever takes longer hangs


def main() -> int:
    """Go through faults, print the table, and return 1 where a promise was broken."""
    options = _options()
    names = options.faults.split(",") if options.faults else list(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    wanted = [FAULTS[name] for name in names if _can_have(FAULTS[name].needs, options)]
    if left_out := [name for name in names if FAULTS[name] not in wanted]:
        print(f"left out: {', '.join(left_out)}", file=sys.stderr)
    rows, broken = asyncio.run(_run(wanted, options))
    command = f"scripts/chaos --seed {options.seed}{' --browser' if options.browser else ''}"
    how = f"Measured by `{command}` on {datetime.now(UTC).date()}, {os.cpu_count()} cores, nothing else running."
    print(table(rows, how))
    if options.report:
        write_table(Path(options.report), rows, how)
    for text in broken:
        print(f"BROKEN {text}", file=sys.stderr)
    return 1 if broken else 0


def _can_have(needs: Needs, options: argparse.Namespace) -> bool:
    if needs == "wire":
        return not why_none()
    return needs != "browser" or bool(options.browser)


async def _run(faults: list[Fault], options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    broken: list[str] = []
    started = time.monotonic()
    async with _Arenas() as arenas:
        for fault in sorted(faults, key=lambda one: one.needs):  # stable: otherwise in the order given
            if time.monotonic() > started + options.seconds:
                broken.append(f"{fault.name}: not tried, {options.seconds:g} s are over")
                continue
            print(f"{time.monotonic() - started:.0f} s: {fault.name}", flush=True)
            try:
                place = await arenas.that_has(fault.needs)
                async with asyncio.timeout(_FAULT_S), ordeal(place, seed=options.seed) as trial:
                    row = await trial.suffer(fault)
                rows.append(row)
                print(row, flush=True)
            except Exception as error:  # noqa: BLE001 whatever it is, the next fault gets its chance
                broken.append(f"{fault.name}: {type(error).__name__}: {error}")
                print(f"BROKEN {broken[-1][:2000]}", flush=True)
                await arenas.leave()
    return rows, broken


class _Arenas:
    """One system for fault after fault, until one breaks it: what is found broken says nothing about the next fault."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._has: Needs = ""
        self._arena: Arena | None = None

    async def that_has(self, needs: Needs) -> Arena:
        if self._arena is None or self._has != needs:
            await self.leave()
            place = arena(browser=needs == "browser", three_nats=needs == "three_nats", wire=needs == "wire")
            self._arena, self._has = await self._stack.enter_async_context(place), needs
        return self._arena

    async def leave(self) -> None:
        """Stop the system. That a broken one does not stop in order is no news."""
        self._arena = None
        try:
            await self._stack.aclose()
        except Exception as error:  # noqa: BLE001 as above
            print(f"while it was stopped: {type(error).__name__}: {str(error)[:500]}", flush=True)

    async def __aenter__(self) -> _Arenas:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=2100.0, help="begin no further fault after that [2100]")
    parser.add_argument("--seed", type=int, default=0, help="which calls are made in which order [0]")
    parser.add_argument("--faults", default="", help="names, separated by commas [all]")
    parser.add_argument("--browser", action="store_true", help="also those that need Chromium")
    parser.add_argument("--report", default="", help="file whose table is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
