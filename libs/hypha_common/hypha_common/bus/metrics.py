from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from hypha_common.errors import DeadlineExceeded, HyphaError, NobodyServes
from hypha_common.readings import SECONDS, Readings, counter, gauge

if TYPE_CHECKING:
    from .bus import Bus

CONNECTED = Gauge("bus_connected", "1 while the bus connection is up")
RECONNECTS = Counter("nats_reconnects", "Times the bus connection was re-established")
ERRORS = Counter("nats_errors", "Errors that the bus client reported", ["kind"])
SLOW_CONSUMER = Counter("nats_slow_consumer", "Times the bus said that this process reads too slowly")
REFUSED = Counter("bus_publish_refused", "Publishes refused because the bus was away")
STANDSTILLS = Counter("standstills", "Times this process stood still, and returned what it found afterwards")
FRAGMENTS_DROPPED = Gauge("bus_fragments_dropped", "Unfinished fragmented messages given up")
VIOLATIONS = Counter("bus_permission_violations", "What the bus did not let this process do", ["kind"])
ROUND_TRIP = Histogram("bus_round_trip_seconds", "Time until the bus had seen what was sent before", buckets=SECONDS)
REQUESTS = Counter("bus_requests", "Questions that this process asked others", ["target", "verb", "outcome"])
REQUEST_SECONDS = Histogram(
    "bus_request_seconds", "Time until a question was answered", ["target", "verb"], buckets=SECONDS
)
VERB_SECONDS = Histogram("bus_verb_seconds", "Time this process took to answer a question", ["verb"], buckets=SECONDS)


class asking:  # noqa: N801  # used as a word
    """Measures a question to another process, by whom it is for and what it is."""

    __slots__ = ("_began", "_place")

    def __init__(self, subject: str) -> None:
        self._place = place_of(subject)
        self._began = time.perf_counter()

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        outcome = "answered" if error is None else _outcome_of(error)
        _requests(*self._place, outcome).inc()
        if outcome != "given_up":
            _request_seconds(*self._place).observe(time.perf_counter() - self._began)


def answering(subject: str) -> AbstractContextManager[object]:
    """Measure the answer to a question of another process."""
    return _verb_seconds(place_of(subject)[1]).time()


# To look one up takes as long as to count; there are as many as series, which no caller makes.
_requests = functools.cache(REQUESTS.labels)
_request_seconds = functools.cache(REQUEST_SECONDS.labels)
_verb_seconds = functools.cache(VERB_SECONDS.labels)


def _outcome_of(error: BaseException) -> str:
    if not isinstance(error, HyphaError):
        return "given_up"  # whoever asked was cancelled
    if isinstance(error, NobodyServes):
        return "nobody"
    if isinstance(error, DeadlineExceeded):
        return "timeout"
    return "refused" if error.status < 500 else "failed"


def place_of(subject: str) -> tuple[str, str]:
    """Return (target, verb) of a question by its subject: a role, ``gateway`` or ``replica``, and what is asked."""
    kind, _, rest = subject[3:].partition(".")
    first, _, rest = rest.partition(".")
    verb = rest.rpartition(".")[2]
    if kind == "r":
        return first, verb
    if kind == "g":
        return "gateway", verb
    if kind == "i":
        return "replica", "ping" if verb == "ping" else "frame"
    return "client" if kind == "f" else "other", "frame"


def note_error(error: Exception) -> None:
    """Count what the bus client complains of; its classes are few."""
    ERRORS.labels(type(error).__name__).inc()
    if "slow consumer" in str(error).lower() or "SlowConsumer" in type(error).__name__:
        SLOW_CONSUMER.inc()


def _readings(buses: list[Bus]) -> Iterable[Metric]:
    loads = [bus.load() for bus in buses]

    def total(name: str) -> float:
        return sum(load[name] for load in loads)

    ways = {way: ((("in",), total(f"in_{way}")), (("out",), total(f"out_{way}"))) for way in ("msgs", "bytes")}
    return [
        gauge("bus_subscriptions", "Subjects that this process listens to", total("subscriptions")),
        gauge("bus_backlog_bytes", "Bytes that were published and not taken by the network yet", total("backlog")),
        gauge("bus_requests_waiting", "Questions to other processes that are not answered yet", total("waiting")),
        gauge("bus_verbs_running", "Questions of other processes that are being answered", total("verbs")),
        counter("bus_messages", "Messages over the bus", dict(ways["msgs"]), ("dir",)),
        counter("bus_bytes", "Bytes of messages over the bus", dict(ways["bytes"]), ("dir",)),
    ]


BUSES = Readings(_readings)
