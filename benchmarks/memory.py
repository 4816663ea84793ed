from __future__ import annotations

import threading
from types import TracebackType

from .processes import ProcessTree

__all__ = ["MemoryWindow"]

_INTERVAL_S = 0.05


class MemoryWindow:
    """How much each process of a server grew at most between two moments, in MiB of resident memory."""

    def __init__(self, server: ProcessTree | None) -> None:
        self._server = server
        self._before: dict[int, int] = {}
        self._most: dict[int, tuple[str, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWindow:
        if self._server is not None:
            self._before = {process.pid: process.rss_kib for process in self._server.processes()}
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def report(self) -> dict[str, float]:
        """Return the growth of the process of each role that grew most."""
        growth: dict[str, float] = {}
        for pid, (role, most) in self._most.items():
            grown = (most - self._before.get(pid, 0)) / 1024
            growth[role] = max(growth.get(role, 0.0), round(grown, 1))
        return growth

    def _watch(self) -> None:
        assert self._server is not None
        while not self._stop.wait(_INTERVAL_S):
            for process in self._server.processes():
                if process.pid in self._before:  # one that came meanwhile has no size to grow from
                    _, most = self._most.get(process.pid, ("", 0))
                    self._most[process.pid] = (process.role, max(most, process.rss_kib))
