from __future__ import annotations

from prometheus_client import Counter, Histogram

from hypha_common.readings import begin_at_zero

__all__ = ["SWEEPS", "SWEEP_SECONDS", "SWEPT"]

SWEEPS = Counter("hypha_artifacts_sweeps", "Passes of the sweep over a database", ["outcome"])
begin_at_zero(SWEEPS, "done", "failed", "idle", "lost")
SWEPT = Counter("hypha_artifacts_swept", "What the sweep removed, or found in use", ["kind"])
SWEEP_SECONDS = Histogram(
    "hypha_artifacts_sweep_seconds",
    "Time of one pass over a database",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
