from __future__ import annotations

from prometheus_client import Counter, Histogram

from hypha_common.readings import SECONDS, begin_at_zero

__all__ = ["ERRORS", "REQUEST_SECONDS"]

REQUEST_SECONDS = Histogram(
    "store_request_seconds", "Time the store took for a request, without those that stream bytes", buckets=SECONDS
)
ERRORS = Counter("store_errors", "Requests that the store did not serve", ["kind"])
begin_at_zero(ERRORS, "away", "failed", "refused")
