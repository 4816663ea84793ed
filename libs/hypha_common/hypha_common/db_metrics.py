from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

from .readings import SECONDS, Readings, begin_at_zero, gauge

if TYPE_CHECKING:
    from .db import Shard

__all__ = ["METERS", "Meter"]

QUERY_SECONDS = Histogram(
    "database_query_seconds", "Time of one use of a database: a statement, or a transaction", ["database"],
    buckets=SECONDS,
)  # fmt: skip
WAIT_SECONDS = Histogram(
    "database_wait_seconds", "Time until a connection to a database was to be had", ["database"], buckets=SECONDS
)
ERRORS = Counter("database_errors", "Uses of a database that failed for its sake", ["database", "kind"])


class Meter:
    """How this process uses one database: ``waiting`` for a connection, for how long, and what failed."""

    def __init__(self, url: str) -> None:
        self.database = _name_of(url)
        self.waiting = 0
        self.query_s = QUERY_SECONDS.labels(self.database)
        begin_at_zero(ERRORS, (self.database, "away"), (self.database, "timeout"))
        self.wait_s = WAIT_SECONDS.labels(self.database)

    def failed(self, kind: str) -> None:
        """Count a use that was in vain, ``away`` or ``timeout``."""
        ERRORS.labels(self.database, kind).inc()


def _name_of(url: str) -> str:
    """Return what an operator calls a database: host and name, never user or password."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2] or 'local'}{parts.path}"


def _readings(shards: list[Shard]) -> Iterable[Metric]:
    connections: dict[tuple[str, ...], float] = {}
    waiting: dict[tuple[str, ...], float] = {}
    for shard in shards:
        name, (in_use, idle) = shard.meter.database, shard.connections()
        for state, number in (("in_use", in_use), ("idle", idle)):
            connections[name, state] = connections.get((name, state), 0) + number
        waiting[name,] = waiting.get((name,), 0) + shard.meter.waiting
    return [
        gauge("database_connections", "Connections of the pool", connections, ("database", "state")),
        gauge("database_waiting", "Uses that wait for a connection", waiting, ("database",)),
    ]


METERS = Readings(_readings)
