"""
Where each workspace partition is: what ``database_partitions`` says, and what was moved since.

What was moved is in ``partition_places`` of the home database, by the names of databases. Epochs come from one sequence
there: of two words about a partition the one with the higher epoch counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .subjects import PARTITIONS

if TYPE_CHECKING:
    from .db import Shard

__all__ = ["PartitionMap", "Phase", "Place", "read_places"]

_TABLE = "partition_places"


class Phase(StrEnum):
    HERE = "here"
    MOVING = "moving"  # to ``other``: nobody works on it
    CLEANING = "cleaning"  # it has arrived; ``other`` still has its rows


@dataclass(frozen=True, slots=True)
class Place:
    """What is kept of one partition that is not, or not only, where the configuration has it."""

    partition: int
    database: str  # which owns it
    phase: Phase
    other: str | None  # database that has to do with a move that is not over
    epoch: int

    @property
    def disturbed(self) -> set[str]:
        """The databases in which changes that do not name a partition have to wait."""
        if self.phase is Phase.HERE or self.other is None:
            return set()
        return {self.database, self.other} if self.phase is Phase.MOVING else {self.other}


class PartitionMap:
    """The place of every partition, at one moment."""

    def __init__(self, configured: Mapping[int, str], places: Iterable[Place] = ()) -> None:
        self._configured = configured
        self.places = {place.partition: place for place in places}
        self.epoch = max((place.epoch for place in self.places.values()), default=0)
        self.disturbed = set[str]().union(*(place.disturbed for place in self.places.values()))

    def place(self, partition: int) -> str:
        """Return the name of the database that owns a partition."""
        kept = self.places.get(partition)
        return self._configured[partition] if kept is None else kept.database

    def epoch_of(self, partition: int) -> int:
        """Return the epoch of the latest word about a partition; 0 where it has never been moved."""
        kept = self.places.get(partition)
        return 0 if kept is None else kept.epoch

    def is_open(self, partition: int) -> bool:
        kept = self.places.get(partition)
        return kept is None or kept.phase is not Phase.MOVING

    def by_database(self) -> dict[str, list[int]]:
        """Return the partitions that each database owns."""
        found: dict[str, list[int]] = {}
        for partition in range(PARTITIONS):
            found.setdefault(self.place(partition), []).append(partition)
        return found

    def with_places(self, places: Iterable[Place]) -> PartitionMap:
        """Return the map of the same configuration with what is kept now."""
        return PartitionMap(self._configured, places)

    def opened(self, database: str) -> dict[int, int]:
        """Return the partitions that may be worked on in a database, with the epoch of the word that says so."""
        return {p: self.epoch_of(p) for p in range(PARTITIONS) if self.place(p) == database and self.is_open(p)}


async def read_places(home: Shard) -> list[Place]:
    """Return what is kept in the home database; nothing where no partition was ever moved."""
    if await home.fetchval("SELECT to_regclass($1)", _TABLE) is None:
        return []
    rows = await home.fetch("SELECT partition, database, phase, other, epoch FROM partition_places")
    return [Place(row["partition"], row["database"], Phase(row["phase"]), row["other"], row["epoch"]) for row in rows]
