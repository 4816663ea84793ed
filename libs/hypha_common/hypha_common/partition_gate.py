from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import Unavailable

if TYPE_CHECKING:
    from asyncpg import Connection, Record

__all__ = ["Gate", "read_fences"]

_FENCES = "partition_fences"


class Gate:
    """
    What of one database this process may work on now, and what it is doing there.

    A partition is open while the map says that it is here and not being moved. Besides, each database has fences of its
    own: a process that has not heard of a move reads them with every new connection, and keeps out.

    """

    def __init__(self, database: str) -> None:
        self._database = database
        self._open: Mapping[int, int] = {}  # epoch by partition, as the map has it
        self._fences: dict[int, int] = {}  # epoch by partition, as the database has it
        self._epoch = 0  # of the map
        self._changing = False  # a partition of this database is being moved
        self._running: dict[object, int | None] = {}  # the partition of each piece of work; None: the whole database
        self._left = asyncio.Event()

    def set(self, opened: Mapping[int, int], *, epoch: int, changing: bool) -> None:
        """Let pass what the map says from now on."""
        self._open = opened
        self._epoch = epoch
        self._changing = changing

    def fence(self, fences: Mapping[int, int]) -> None:
        """Take note of what the database itself says."""
        for partition, epoch in fences.items():
            self._fences[partition] = max(epoch, self._fences.get(partition, 0))

    @contextmanager
    def passing(self, partition: int | None, *, changes: bool) -> Iterator[None]:
        """
        Let work on a partition begin, or on the whole database (None); returns at its end.

        Raises Unavailable where the partition is elsewhere or being moved, or where ``changes`` of the whole database
        would not go along with it.

        """
        if partition is None:
            # A fence that is newer than the map: what is being done to this database has not been heard yet.
            if changes and (self._changing or max(self._fences.values(), default=0) > self._epoch):
                raise Unavailable(f"A partition of database {self._database} is being moved, try again")
        elif not self._admits(partition):
            raise Unavailable(f"Partition {partition} is being moved to another database, try again")
        work = object()
        self._running[work] = partition
        try:
            yield
        finally:
            del self._running[work]
            self._left.set()

    async def settled(self) -> None:
        """Wait for the end of what would not be let in any more."""
        leaving = {
            work
            for work, partition in self._running.items()
            if (self._changing if partition is None else not self._admits(partition))
        }
        while leaving & self._running.keys():
            self._left.clear()
            await self._left.wait()

    def _admits(self, partition: int) -> bool:
        epoch = self._open.get(partition)
        return epoch is not None and self._fences.get(partition, -1) <= epoch


async def read_fences(gate: Gate, connection: Connection[Record]) -> None:
    """Read what is fenced off in a database; the first thing that a new connection does."""
    if await connection.fetchval("SELECT to_regclass($1)", _FENCES) is not None:
        rows = await connection.fetch("SELECT partition, epoch FROM partition_fences")
        gate.fence({row["partition"]: row["epoch"] for row in rows})
