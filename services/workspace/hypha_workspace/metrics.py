from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from hypha_common.readings import begin_at_zero

CONNECTS = Counter("hypha_workspace_connects", "Connections admitted or refused", ["outcome"])
CONNECT_SECONDS = Histogram(
    "hypha_workspace_connect_seconds",
    "Time to admit a connection",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
DISCONNECTS = Counter("hypha_workspace_disconnects", "Connections ended", ["cause"])
REGISTRATIONS = Counter("hypha_workspace_registrations", "Services registered", ["outcome"])
EVENTS_LOST = Counter("hypha_workspace_events_lost", "Events that the bus did not take")
SWEEPS = Counter("hypha_workspace_sweeps", "Passes of the sweeper", ["outcome"])
SWEPT = Counter("hypha_workspace_swept", "Rows removed by the sweeper", ["kind"])
SWEEP_SECONDS = Histogram("hypha_workspace_sweep_seconds", "Time of one pass over all databases")
ROWS = Gauge("hypha_workspace_rows", "Rows of the registry", ["kind"])
REGISTRY_ROWS = Gauge("registry_rows", "Clients in the registry, by what their gateway's lease says", ["state"])
REPAIRED = Counter("reconcile_removed", "Rows that nothing vouched for, found by the audit of the registry", ["kind"])
EVENTS = Counter("hypha_workspace_events", "Events published for members of workspaces")

begin_at_zero(SWEEPS, "done", "failed")
begin_at_zero(REPAIRED, "client", "service")
