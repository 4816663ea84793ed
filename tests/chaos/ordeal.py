from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos.arena import Arena
from tests.chaos.faults import Fault
from tests.chaos.history import Violation, check
from tests.chaos.report import Row
from tests.chaos.workload import Workload, at_work
from tests.cluster.operations import registry_is_what_has_sockets

__all__ = ["RECOVERY_S", "Ordeal", "go_through", "ordeal"]

RECOVERY_S = 15.0  # the promise


class Ordeal:
    """A system under load, one fault after another, and what is found."""

    def __init__(self, arena: Arena, workload: Workload) -> None:
        self.arena = arena
        self.workload = workload
        self.violations: list[Violation] = []
        self._lossy: list[tuple[float, float]] = []

    async def suffer(self, fault: Fault) -> Row:
        """
        Go through a fault. Raises AssertionError where the system does not recover in time, or is not as it was.

        What the history shows is in the row, and in ``violations``.

        """
        arena, history = self.arena, self.workload.history
        arena.before = arena.pids
        errors = len(arena.errors())
        started = time.monotonic()
        async with fault.inject(arena):
            await asyncio.sleep(fault.hold_s)
            over = time.monotonic()
        recovery_s = await self.workload.recovered(over, within_s=RECOVERY_S)
        if not fault.lossless:
            # A frame may have been on its way when it began.
            self._lossy.append((started - 1, over + recovery_s + 1))
        if fault.forgets:
            self._excuse(started, over + recovery_s)
        await self._as_before(fault)
        if fault.forgets:
            # Gateways send clients away to register anew, some seconds after the end; so frames to these get lost.
            self._lossy.append((started - 1, time.monotonic()))
        told = arena.errors()[errors:]
        assert told == [], "\n".join(told)
        found = self._new_violations()
        calls = [call for call in history.since(started) if not call.one_way]
        failed = [call for call in calls if call.outcome == "failed"]
        definite = sum(call.definite for call in failed)
        ended = [call.took_s for call in calls if call.ended is not None]
        return Row(
            name=fault.name,
            what=fault.what,
            recovery_s=recovery_s,
            calls=len(calls),
            definite=definite,
            ambiguous=len(failed) - definite,
            ran_late=sum(call.ran_late_s > 0 for call in failed),
            longest_s=max(ended, default=0.0),
            violations=len(found),
        )

    def _excuse(self, start: float, end: float) -> None:
        """A listing that lacks what is there while the registry fills is a failure that is documented, and no lie."""
        for call in self.workload.history.calls.values():
            if call.kind == "list" and call.value == "nothing" and start <= call.sent <= end:
                call.outcome, call.error = "failed", "the registry was empty"

    async def _as_before(self, fault: Fault) -> None:
        """Nothing else was started again, and the registry knows exactly who has a socket."""
        arena = self.arena
        changed = {role for role, pids in arena.pids.items() if pids != arena.before.get(role)}
        assert changed <= fault.restarted, f"{changed - fault.restarted} was started again"
        for workspace in sorted({member.workspace for member in self.workload.members}):
            members = {member.address for member in self.workload.members if member.workspace == workspace}
            registered = await registry_is_what_has_sockets(arena.cluster, workspace)
            assert members <= registered, f"not in the registry: {members - registered}"

    def judged(self) -> list[Violation]:
        """Return all violations, now that every call has ended."""
        self._new_violations(over=True)
        return self.violations

    def _new_violations(self, *, over: bool = False) -> list[Violation]:
        # The last frames of a stream are still on their way.
        now = time.monotonic()
        lossy = [*self._lossy, (now - 2, now)]
        found = check(self.workload.history, lossy=lossy, slack_s=self.workload.lag_s, now=None if over else now)
        known = set(self.violations)
        new = [violation for violation in found if violation not in known]
        self.violations += new
        return new


@asynccontextmanager
async def ordeal(arena: Arena, *, seed: int = 0, members: int = 9) -> AsyncIterator[Ordeal]:
    """Put a system under load. Saves the history and says where, if it is not clean or something else fails."""
    made: Ordeal | None = None
    try:
        async with at_work(
            arena.cluster, arena.urls, kinds=arena.kinds, members=members, seed=seed, apps=arena.workspace
        ) as workload:
            made = Ordeal(arena, workload)
            yield made
        assert made.judged() == [], "\n".join(map(str, made.violations[:20]))
    except BaseException:
        if made is not None:
            with tempfile.NamedTemporaryFile(prefix="hypha-chaos-", suffix=".jsonl", delete=False) as file:
                made.workload.history.save(Path(file.name))
            print(f"the history is in {file.name}\n{made.workload.report(list(made.workload.history.calls.values()))}")
        raise


async def go_through(arena: Arena, fault: Fault, *, members: int = 9) -> None:
    """Let a system under load suffer one fault. Raises AssertionError where a promise is broken."""
    async with ordeal(arena, members=members) as trial:
        row = await trial.suffer(fault)
        print(row, file=sys.stderr)
    assert trial.violations == []
