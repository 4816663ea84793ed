from __future__ import annotations

import functools
import time
from collections.abc import Awaitable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from hypha_common.errors import HyphaError
from hypha_common.readings import SECONDS

__all__ = ["CALLBACK", "UNKNOWN", "Stopwatch"]

CALLBACK = "callback"  # a function that was an argument, or part of an answer
UNKNOWN = "unknown"  # whatever was asked for: callers choose the words

CALLS = Counter("rpc_call", "Calls that this process executed", ["method", "outcome"])
CALL_SECONDS = Histogram(
    "rpc_call_seconds", "Time of a call, from its frame to its answer", ["method"], buckets=SECONDS
)
_calls = functools.cache(CALLS.labels)  # to look one up takes as long as to count
_call_seconds = functools.cache(CALL_SECONDS.labels)
RUNNING = Gauge("rpc_calls_running", "Calls that are being executed")


class Stopwatch:
    """
    Measures one call of ``method``, which is one of ours: what callers make up must never become a label.

    """

    __slots__ = ("_began", "_method")

    def __init__(self, method: str) -> None:
        self._method = method
        self._began = time.perf_counter()

    async def around(self, work: Awaitable[Any]) -> Any:
        """Await ``work`` and measure it."""
        RUNNING.inc()
        try:
            value = await work
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            RUNNING.dec()
        self.done()
        return value

    def done(self) -> None:
        self._note("answered")

    def failed(self, error: BaseException) -> None:
        """Count a failure: ``refused`` where the caller is to blame, ``cancelled``, else ``failed``."""
        if isinstance(error, HyphaError):
            self._note("refused" if error.status < 500 else "failed")
        else:
            self._note("failed" if isinstance(error, Exception) else "cancelled")

    def _note(self, outcome: str) -> None:
        _calls(self._method, outcome).inc()
        _call_seconds(self._method).observe(time.perf_counter() - self._began)
