from __future__ import annotations

import os
import time

from .processes import ProcessTree

__all__ = ["CpuWindow"]


class CpuWindow:
    """
    CPU time used between two moments, by the load generator and by each role of the server.

    Service providers count as ``provider`` when they are given; other processes the generator started count as
    ``generator`` once they were waited for.

    """

    def __init__(self, server: ProcessTree | None, *, providers: ProcessTree | None = None) -> None:
        self._server = server
        self._providers = providers
        self.seconds: dict[str, float] = {}
        self.elapsed_s = 0.0

    def __enter__(self) -> CpuWindow:
        self._before = self._snapshot()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.elapsed_s = time.perf_counter() - self._started
        after = self._snapshot()
        self.seconds = {role: round(used - self._before.get(role, 0.0), 3) for role, used in after.items()}

    @property
    def server_s(self) -> float:
        return sum(used for role, used in self.seconds.items() if role not in ("generator", "provider"))

    def report(self, operations: int | None = None) -> dict[str, object]:
        """Seconds by role, the share of each in all CPU time spent, and what one operation cost."""
        total = sum(self.seconds.values()) or 1.0
        report: dict[str, object] = {
            "seconds": self.seconds,
            "server_s": round(self.server_s, 3),
            "share": {role: round(used / total, 3) for role, used in self.seconds.items()},
        }
        if operations:
            report["server_us_per_operation"] = round(self.server_s / operations * 1e6, 2)
            report["generator_us_per_operation"] = round(self.seconds["generator"] / operations * 1e6, 2)
        return report

    def _snapshot(self) -> dict[str, float]:
        used = os.times()
        snapshot = {"generator": used.user + used.system + used.children_user + used.children_system}
        if self._providers is not None:
            snapshot["provider"] = sum(self._providers.cpu_by_role().values())
        if self._server is not None:
            snapshot |= self._server.cpu_by_role()
        return snapshot
