from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from tests.chaos.arena import arena
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.ordeal import ordeal
from tests.chaos.report import Row, table, write_table


def main() -> int:
    """Go through faults, print the table, and return 1 where a promise was broken."""
    options = _options()
    names = options.faults.split(",") if options.faults else list(FAULTS)
    if unknown := [name for name in names if name not in FAULTS]:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    wanted = [FAULTS[name] for name in names if options.browser or not FAULTS[name].needs]
    rows, broken = asyncio.run(_run(wanted, options))
    how = f"Measured by `scripts/chaos --seed {options.seed}`{' with a browser worker' if options.browser else ''}."
    print(table(rows, how))
    if options.report:
        write_table(Path(options.report), rows, how)
    for text in broken:
        print(f"BROKEN {text}", file=sys.stderr)
    return 1 if broken else 0


async def _run(faults: list[Fault], options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    rows: list[Row] = []
    broken: list[str] = []
    deadline = time.monotonic() + options.seconds
    for fault in faults:
        if time.monotonic() > deadline:
            broken.append(f"{fault.name}: not tried, {options.seconds:g} s are over")
            continue
        try:
            # A cluster for each: one that is found broken says nothing about the next fault.
            async with arena(browser=bool(fault.needs)) as place, ordeal(place, seed=options.seed) as trial:
                rows.append(await trial.suffer(fault))
            print(rows[-1], flush=True)
        except (AssertionError, TimeoutError) as error:
            broken.append(f"{fault.name}: {str(error) or 'timed out'}")
            print(f"BROKEN {broken[-1][:2000]}", flush=True)
    return rows, broken


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="begin no further fault after that [3600]")
    parser.add_argument("--seed", type=int, default=0, help="which calls are made in which order [0]")
    parser.add_argument("--faults", default="", help="names, separated by commas [all]")
    parser.add_argument("--browser", action="store_true", help="also those that need Chromium")
    parser.add_argument("--report", default="", help="file whose table is replaced")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
