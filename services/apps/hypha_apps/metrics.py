from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from hypha_common.readings import begin_at_zero

# Never by workspace or app: there are too many of them.
SESSIONS = Gauge("hypha_apps_sessions", "Sessions of apps in all databases", ["status"])
DAEMONS_WAITING = Gauge("hypha_apps_daemons_waiting", "Daemons that should run and do not")
STARTS = Counter("hypha_apps_starts", "Starts of apps", ["outcome"])
begin_at_zero(STARTS, "failed", "lost", "started")
START_SECONDS = Histogram(
    "hypha_apps_start_seconds",
    "Time until an app that was started ran",
    buckets=(0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120),
)
STOPS = Counter("hypha_apps_stops", "Sessions that ended after they had begun, by what ended them", ["kind"])
ACTIVITY = Counter("hypha_apps_activity_reports", "Sessions that gateways told of", ["outcome"])
DAEMON_STARTS = Counter("hypha_apps_daemon_starts", "Attempts to start a daemon", ["outcome"])
AUTOSCALING = Counter("hypha_apps_autoscaling_actions", "What autoscaling did", ["action"])
ROUNDS = Counter("hypha_apps_keeping_rounds", "Looks at a database for what has to be done", ["task", "outcome"])

# What sessions say of their end begins so.
_KINDS = {
    "inactive ": "inactive",
    "stopped by ": "user",
    "scaled ": "scaled",
    "its worker ": "lost",
    "its client ": "lost",
    "workspace ": "workspace",
    "the app ": "app",
}


def kind_of(reason: str) -> str:
    """Return what ended a session in one word, of a few."""
    return next((kind for beginning, kind in _KINDS.items() if reason.startswith(beginning)), "other")
