"""
Write ``dashboards/hypha.json``: ``python deploy/observability/grafana/dashboard.py``.

The dashboard is this table; a test checks that the file is what the table says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FILE", "dashboard"]

FILE = Path(__file__).with_name("dashboards") / "hypha.json"

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_OF = 'role=~"$role", instance=~"$instance"'
_GATEWAY = 'instance=~"$instance"'
_WIDTH, _HEIGHT, _IN_A_ROW = 8, 7, 3


@dataclass(frozen=True)
class Panel:
    """One graph: (expression, legend) of each line; ``unit`` as Grafana names it."""

    title: str
    lines: tuple[tuple[str, str], ...]
    unit: str = "short"
    about: str = ""
    stat: bool = False


def _p99(metric: str, by: str, of: str = "") -> str:
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric}_bucket{{{of}}}[$__rate_interval])))"


def _median(metric: str, of: str = "") -> str:
    return f"histogram_quantile(0.5, sum by (le) (rate({metric}_bucket{{{of}}}[$__rate_interval])))"


def _p99_of_all(metric: str, of: str = "") -> str:
    return f"histogram_quantile(0.99, sum by (le) (rate({metric}_bucket{{{of}}}[$__rate_interval])))"


def _rate(metric: str, by: str, of: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{of}}}[$__rate_interval]))"


ROWS: dict[str, list[Panel]] = {
    "Overview": [
        Panel("Clients", (("hypha:websocket_connections:sum", "clients"),), stat=True),
        Panel("Frames", (("sum(hypha:gateway_frames:rate1m)", "frames"),), "cps", stat=True),
        Panel(
            "Alerts", (('sum(ALERTS{alertname=~"Hypha.*", alertstate="firing"}) or vector(0)', "alerts"),), stat=True
        ),
        Panel("Replicas that answer", (('sum by (role) (up{role=~"$role"})', "{{role}}"),)),
        Panel("HTTP answers 5xx, our own routes", (("hypha:http_failed:ratio5m", "failed"),), "percentunit"),
        Panel("Calls to roles that fail", (("role:rpc_call_failed:ratio5m", "{{role}}"),), "percentunit"),
    ],
    "Gateways": [
        Panel(
            "Connections",
            ((f"sum by (instance, transport) (websocket_connections{{{_GATEWAY}}})", "{{instance}} {{transport}}"),),
        ),
        Panel(
            "Handshakes",
            (
                (_rate("websocket_connections_established_total", "instance", _GATEWAY), "in {{instance}}"),
                (_rate("websocket_refused_total", "code", _GATEWAY), "refused {{code}}"),
            ),
            "cps",
        ),
        Panel(
            "Handshake, slowest of 100",
            (
                (_p99("handshake_seconds", "instance", _GATEWAY), "{{instance}}"),
                (_p99("admission_wait_seconds", "instance", _GATEWAY), "wait for a slot {{instance}}"),
            ),
            "s",
        ),
        Panel(
            "Bytes that wait for clients",
            (
                (f"sum by (instance) (outbound_queue_bytes{{{_GATEWAY}}})", "all {{instance}}"),
                (f"max by (instance) (outbound_queue_max_bytes{{{_GATEWAY}}})", "slowest {{instance}}"),
            ),
            "bytes",
        ),
        Panel(
            "Clients cut off or replaced",
            (
                (_rate("slow_client_closed_total", "instance", _GATEWAY), "slow {{instance}}"),
                (_rate("supersede_total", "instance", _GATEWAY), "came again {{instance}}"),
                (_rate("websocket_rate_limited_disconnects_total", "instance", _GATEWAY), "too fast {{instance}}"),
            ),
            "cps",
        ),
        Panel("Since the lease was renewed", ((f"lease_age_seconds{{{_GATEWAY}}}", "{{instance}}"),), "s"),
        Panel("Tables", ((f"sum by (table) (gateway_table_entries{{{_GATEWAY}}})", "{{table}}"),)),
        Panel(
            "HTTP requests",
            ((_rate("http_requests_total", "route, status", _GATEWAY), "{{route}} {{status}}"),),
            "reqps",
        ),
        Panel("HTTP, slowest of 100", ((_p99("http_request_seconds", "route", _GATEWAY), "{{route}}"),), "s"),
    ],
    "Routing": [
        Panel("Frames", ((_rate("gateway_frames_total", "dir, kind", _GATEWAY), "{{dir}} {{kind}}"),), "cps"),
        Panel("Bytes of frames", ((_rate("gateway_frame_bytes_total", "instance", _GATEWAY), "{{instance}}"),), "Bps"),
        Panel(
            "Size of frames, median and largest of 100",
            (
                (
                    _median("frame_bytes", _GATEWAY),
                    "median",
                ),
                (
                    _p99_of_all("frame_bytes", _GATEWAY),
                    "largest of 100",
                ),
            ),
            "bytes",
        ),
        Panel(
            "To route a frame, slowest of 100",
            ((_p99("frame_route_seconds", "instance", _GATEWAY), "{{instance}}"),),
            "s",
            "One frame in 64 is timed.",
        ),
        Panel(
            "Calls of clients that are not there",
            ((_rate("peer_not_found_total", "reason", _GATEWAY), "{{reason}}"),),
            "cps",
        ),
        Panel(
            "Calls between clients", ((_rate("client_requests_total", "instance", _GATEWAY), "{{instance}}"),), "cps"
        ),
    ],
    "Roles": [
        Panel(
            "Calls, seen at the gateways",
            ((_rate("role_calls_total", "target, outcome", _GATEWAY), "{{target}} {{outcome}}"),),
            "cps",
        ),
        Panel(
            "Answer, slowest of 100, seen at the gateways",
            ((_p99("role_call_seconds", "target", _GATEWAY), "{{target}}"),),
            "s",
        ),
        Panel("Answers owed", ((f"sum by (target) (role_calls_owed{{{_GATEWAY}}})", "{{target}}"),)),
        Panel("Calls by method", ((_rate("rpc_call_total", "method", _OF), "{{method}}"),), "cps"),
        Panel("Calls by method, slowest of 100", ((_p99("rpc_call_seconds", "method", _OF), "{{method}}"),), "s"),
        Panel(
            "Calls that failed", ((_rate("rpc_call_total", "method", f'{_OF}, outcome="failed"'), "{{method}}"),), "cps"
        ),
        Panel(
            "Rows of the registry",
            (
                ("max by (kind) (hypha_workspace_rows)", "{{kind}}"),
                ('max by (state) (registry_rows{state="lapsed"})', "{{state}}"),
            ),
        ),
        Panel(
            "Swept up and repaired",
            (
                (_rate("hypha_workspace_swept_total", "kind"), "swept {{kind}}"),
                (_rate("reconcile_removed_total", "kind"), "repaired {{kind}}"),
            ),
            "cps",
        ),
        Panel(
            "To let a client in, slowest of 100",
            ((_p99("hypha_workspace_connect_seconds", "instance"), "{{instance}}"),),
            "s",
        ),
    ],
    "Bus": [
        Panel("Connected", ((f"min by (role) (bus_connected{{{_OF}}})", "{{role}}"),)),
        Panel("Round trip, slowest of 100", ((_p99("bus_round_trip_seconds", "role", _OF), "{{role}}"),), "s"),
        Panel("Bytes", ((_rate("bus_bytes_total", "role, dir", _OF), "{{role}} {{dir}}"),), "Bps"),
        Panel(
            "Bytes that wait",
            ((f"sum by (role, instance) (bus_backlog_bytes{{{_OF}}})", "{{role}} {{instance}}"),),
            "bytes",
        ),
        Panel(
            "Questions between processes, slowest of 100",
            ((_p99("bus_request_seconds", "target, verb", _OF), "{{target}} {{verb}}"),),
            "s",
        ),
        Panel(
            "Questions that were not answered",
            (
                (
                    _rate("bus_requests_total", "target, verb, outcome", f'{_OF}, outcome!="answered"'),
                    "{{target}} {{verb}} {{outcome}}",
                ),
            ),
            "cps",
        ),
        Panel(
            "Reconnects and errors",
            (
                (f"sum by (role) (increase(nats_reconnects_total{{{_OF}}}[$__rate_interval]))", "reconnects {{role}}"),
                (f"sum by (role, kind) (increase(nats_errors_total{{{_OF}}}[$__rate_interval]))", "{{kind}} {{role}}"),
            ),
        ),
        Panel("Subscriptions", ((f"sum by (role) (bus_subscriptions{{{_OF}}})", "{{role}}"),)),
        Panel("Events published", ((_rate("event_bus_total", "role", _OF), "{{role}}"),), "cps"),
    ],
    "Databases": [
        Panel(
            "Statements",
            ((_rate("database_query_seconds_count", "role, database", _OF), "{{role}} {{database}}"),),
            "ops",
        ),
        Panel(
            "Statement, slowest of 100",
            ((_p99("database_query_seconds", "role, database", _OF), "{{role}} {{database}}"),),
            "s",
        ),
        Panel(
            "Wait for a connection, slowest of 100",
            ((_p99("database_wait_seconds", "role, database", _OF), "{{role}} {{database}}"),),
            "s",
        ),
        Panel("Connections", ((f"sum by (role, state) (database_connections{{{_OF}}})", "{{role}} {{state}}"),)),
        Panel("Uses that wait", ((f"sum by (role) (database_waiting{{{_OF}}})", "{{role}}"),)),
        Panel(
            "Failures",
            ((_rate("database_errors_total", "role, database, kind", _OF), "{{role}} {{database}} {{kind}}"),),
            "cps",
        ),
    ],
    "Artifacts": [
        Panel(
            "Requests to the store", ((_rate("store_request_seconds_count", "instance", _OF), "{{instance}}"),), "ops"
        ),
        Panel(
            "Request to the store, slowest of 100",
            ((_p99("store_request_seconds", "instance", _OF), "{{instance}}"),),
            "s",
        ),
        Panel("Failures of the store", ((_rate("store_errors_total", "kind", _OF), "{{kind}}"),), "cps"),
        Panel(
            "Bytes of files",
            (
                ("sum(rate(file_stored_bytes_total[$__rate_interval]))", "stored"),
                ("sum(rate(file_fetched_bytes_total[$__rate_interval]))", "fetched"),
            ),
            "Bps",
        ),
        Panel("Files that broke off", (("sum(increase(file_cut_short_total[$__rate_interval]))", "files"),)),
        Panel("Swept up", ((_rate("hypha_artifacts_swept_total", "kind"), "{{kind}}"),), "cps"),
    ],
    "Apps": [
        Panel("Sessions", (("max by (status) (hypha_apps_sessions)", "{{status}}"),)),
        Panel("Starts", ((_rate("hypha_apps_starts_total", "outcome"), "{{outcome}}"),), "cps"),
        Panel(
            "Start, median and slowest of 100",
            (
                (
                    _median("hypha_apps_start_seconds"),
                    "median",
                ),
                (
                    _p99_of_all("hypha_apps_start_seconds"),
                    "slowest of 100",
                ),
            ),
            "s",
        ),
        Panel("Ends", ((_rate("hypha_apps_stops_total", "kind"), "{{kind}}"),), "cps"),
        Panel("Daemons that wait", (("max(hypha_apps_daemons_waiting)", "daemons"),)),
        Panel(
            "Browser workers",
            (
                ("sum by (instance) (browser_worker_sessions)", "sessions {{instance}}"),
                ("sum by (instance) (browser_worker_browsers)", "browsers {{instance}}"),
            ),
        ),
    ],
    "Processes": [
        Panel(
            "CPU",
            ((_rate("process_cpu_seconds_total", "role, instance", _OF), "{{role}} {{instance}}"),),
            "percentunit",
        ),
        Panel(
            "Memory",
            ((f"sum by (role, instance) (process_resident_memory_bytes{{{_OF}}})", "{{role}} {{instance}}"),),
            "bytes",
        ),
        Panel(
            "Event loop late, slowest of 100",
            ((_p99("eventloop_delay_seconds", "role, instance", _OF), "{{role}} {{instance}}"),),
            "s",
        ),
        Panel("Tasks", ((f"sum by (role, kind) (asyncio_tasks{{{_OF}}})", "{{role}} {{kind}}"),)),
        Panel("Open files", ((f"sum by (role, instance) (process_open_fds{{{_OF}}})", "{{role}} {{instance}}"),)),
        Panel("Versions", ((f"count by (role, version) (hypha_build_info{{{_OF}}})", "{{role}} {{version}}"),)),
    ],
}


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it; the data source is chosen there."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        grid = {"x": 0, "y": y, "w": 24, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": grid, "collapsed": False, "panels": []})
        for index, panel in enumerate(row):
            line, column = divmod(index, _IN_A_ROW)
            place = {"x": column * _WIDTH, "y": y + 1 + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(panel, place))
        y += 1 + -(-len(row) // _IN_A_ROW) * _HEIGHT
    for number, shown in enumerate(panels, start=1):
        shown["id"] = number
    return {
        "title": "Hypha",
        "uid": "hypha",
        "tags": ["hypha"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"datasource": _SOURCE, "expr": expr, "legendFormat": legend, "refId": chr(ord("A") + index)}
        for index, (expr, legend) in enumerate(panel.lines)
    ]
    return {
        "type": "stat" if panel.stat else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {} if panel.stat else {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _variables() -> list[dict[str, Any]]:
    found = {"role": "label_values(up{role!=''}, role)", "instance": 'label_values(up{role=~"$role"}, instance)'}
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        *(
            {
                "name": name,
                "label": name.capitalize(),
                "type": "query",
                "datasource": _SOURCE,
                "query": {"query": query, "refId": name},
                "definition": query,
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
            }
            for name, query in found.items()
        ),
    ]


def text() -> str:
    """Return the file's text."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
