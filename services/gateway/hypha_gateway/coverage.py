from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypha_common.bus import Bus
from hypha_common.errors import HyphaError, NobodyServes
from hypha_common.ids import PUBLIC_WORKSPACE
from hypha_common.placement import partition_range, ranges
from hypha_common.subjects import PARTITIONS, partition_of, role_verb

__all__ = ["Coverage", "look"]

_PUBLIC = partition_of(PUBLIC_WORKSPACE)  # every client needs something of it: asked first
_AWAY = "their database is away"


@dataclass(frozen=True, slots=True)
class Coverage:
    """
    Which partitions a role does not serve, and why.

    While some are served a gateway is of use: half of the workspaces are better than none.

    """

    role: str
    lost: dict[int, str]
    nobody: bool  # no replica is there

    @property
    def none(self) -> bool:
        return len(self.lost) == PARTITIONS

    @property
    def reason(self) -> str:
        """Return why it is none."""
        return f"no replica of role '{self.role}' is there" if self.nobody else self.lost[_PUBLIC]

    def __str__(self) -> str:
        if not self.lost:
            return "ready"
        if len(set(self.lost.values())) == 1 and self.none:
            return self.reason
        by_reason: dict[str, list[int]] = {}
        for partition, reason in self.lost.items():
            by_reason.setdefault(reason, []).append(partition)
        return "; ".join(f"partitions {ranges(lost)}: {reason}" for reason, lost in by_reason.items())


async def look(bus: Bus, role: str, *, timeout: float) -> Coverage:
    """Ask a role whether it can serve: one replica, where that serves all partitions, else one for each of them."""
    lost: dict[int, str] = {}
    answered: set[int] = set()
    nobody = 0

    async def ask(partition: int) -> None:
        nonlocal nobody
        try:
            answer: Any = await bus.request(role_verb(role, partition, "ready"), {}, timeout=timeout)
        except NobodyServes:
            nobody += 1
            lost[partition] = "no replica serves them"
        except HyphaError as error:
            lost[partition] = error.message
        else:
            served, away = _numbers(answer.get("serves", f"0-{PARTITIONS - 1}")), _numbers(answer.get("away", ""))
            answered.update(served)
            lost.update(dict.fromkeys(away, _AWAY))

    await ask(_PUBLIC)
    if len(answered) < PARTITIONS:
        await asyncio.gather(*(ask(p) for p in range(PARTITIONS) if p not in answered and p != _PUBLIC))
    return Coverage(role, dict(sorted(lost.items())), nobody == PARTITIONS)


def _numbers(text: str) -> set[int]:
    return {number for word in text.split(",") if word for number in partition_range(word)}
