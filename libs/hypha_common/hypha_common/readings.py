from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from prometheus_client import REGISTRY
from prometheus_client import Counter as PromCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["SECONDS", "Readings", "Sizes", "begin_at_zero", "counter", "gauge"]

# From a step within a process to a call that somebody has given up.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Source = TypeVar("Source")
Values = Mapping[Any, float]  # by a tuple of the values of the labels


class Readings(Collector, Generic[Source]):
    """
    Metrics that are read from living objects when somebody asks, and cost nothing until then.

    ``read`` is given the objects that were added and still live, at first none; it names every metric all the same.

    """

    def __init__(self, read: Callable[[list[Source]], Iterable[Metric]]) -> None:
        self._read = read
        self._sources: WeakSet[Source] = WeakSet()
        REGISTRY.register(self)

    def add(self, source: Source) -> None:
        self._sources.add(source)

    def discard(self, source: Source) -> None:
        self._sources.discard(source)

    def collect(self) -> Iterable[Metric]:
        return self._read(list(self._sources))

    def describe(self) -> Iterable[Metric]:
        return self._read([])


class Sizes:
    """
    A histogram of sizes by powers of two, for where a Prometheus histogram would cost too much: one addition a value.

    """

    __slots__ = ("_buckets", "_first", "_last", "total")

    def __init__(self, *, first_bits: int, last_bits: int) -> None:
        self._first = first_bits
        self._last = last_bits
        self._buckets = [0] * 64  # by bit length; beyond the last shown one they count as infinite
        self.total = 0

    def add(self, size: int) -> None:
        self._buckets[size.bit_length()] += 1
        self.total += size

    def metric(self, name: str, documentation: str) -> Metric:
        """Return it as Prometheus shows histograms; a bucket holds what is smaller than its bound, a power of two."""
        buckets, counted = [], sum(self._buckets[: self._first])
        for bits in range(self._first, self._last + 1):
            counted += self._buckets[bits]
            buckets.append((f"{2**bits - 1}.0", float(counted)))
        buckets.append(("+Inf", float(sum(self._buckets))))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self.total)


def begin_at_zero(family: PromCounter, *values: str | tuple[str, ...]) -> None:
    """Show these series before anything is counted: the first failure is then an increase, too, and not a beginning."""
    for value in values:
        family.labels(*((value,) if isinstance(value, str) else value))


def gauge(name: str, documentation: str, values: float | Values, labels: tuple[str, ...] = ()) -> Metric:
    """Return one gauge: a number, or numbers by the values of ``labels``."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for key, value in _by_labels(values).items():
        family.add_metric(key, value)
    return family


def counter(name: str, documentation: str, values: float | Values, labels: tuple[str, ...] = ()) -> Metric:
    """Return one counter, named without ``_total``, as :func:`gauge` does."""
    family = CounterMetricFamily(name, documentation, labels=labels)
    for key, value in _by_labels(values).items():
        family.add_metric(key, value)
    return family


def _by_labels(values: float | Values) -> Values:
    return values if isinstance(values, Mapping) else {(): values}
