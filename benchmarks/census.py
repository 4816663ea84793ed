from __future__ import annotations

import asyncio
import json
import re
import tomllib
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import psutil
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cluster.running_cluster import RunningCluster

__all__ = ["Census", "metrics_urls", "take_census"]

_SERVICES = ("gateway", "auth", "workspace", "artifacts", "apps", "browser_worker", "startup")
_SUMMED = {"asyncio_tasks": "tasks", "bus_subscriptions": "interest", "rpc_calls_running": "calls"}

Census = dict[str, float]
"""What there is in a cluster, by names such as ``gateway-0 tasks``, ``nats subscriptions`` or ``rows clients``."""


def metrics_urls(cluster: RunningCluster) -> dict[str, tuple[int, str]]:
    """Return (pid, address of its metrics) of each process that has some, by role and number."""
    found: dict[str, tuple[int, str]] = {}
    for role, pids in cluster.pids.items():
        for index, pid in enumerate(pids if role in _SERVICES else ()):
            environ = psutil.Process(pid).environ()
            port = environ.get("HYPHA_PORT" if role == "gateway" else "HYPHA_METRICS_PORT", "0")
            found[f"{role}-{index}"] = pid, f"http://127.0.0.1:{port}/metrics"
    return found


async def take_census(cluster: RunningCluster) -> Census:
    """Count what there is: in each process, at the bus, in the database."""
    census: Census = {}
    for name, (pid, url) in metrics_urls(cluster).items():
        text = await asyncio.to_thread(_get, url)
        census |= {f"{name} {what}": value for what, value in (*_told(text), *_seen(pid))}
    for name in ("nats", "s3"):
        for pid in cluster.pids.get(name, ()):
            census |= {f"{name} {what}": value for what, value in _seen(pid)}
    census |= await asyncio.to_thread(_bus, cluster.data_dir)
    return census | await _rows(cluster.data_dir)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        text: str = response.read().decode()
    return text


def _told(text: str) -> Iterable[tuple[str, float]]:
    """What a process says of itself."""
    told: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told["series"] += 1
            if sample.name in _SUMMED:
                told[_SUMMED[sample.name]] += sample.value  # type: ignore[assignment]  # counters of numbers
            elif sample.name == "gateway_table_entries":
                told[sample.labels["table"]] += sample.value  # type: ignore[assignment]
    return told.items()


def _seen(pid: int) -> list[tuple[str, float]]:
    """What the system says of a process; memory in KiB."""
    process = psutil.Process(pid)
    return [("files", process.num_fds()), ("rss", process.memory_info().rss / 1024)]


def _bus(data_dir: Path) -> Census:
    match = re.search(r"^http: (\S+)", (data_dir / "nats.conf").read_text(), re.MULTILINE)
    assert match is not None, "NATS is not monitored"
    told: dict[str, Any] = json.loads(_get(f"http://{match[1]}/connz?subs=1&limit=1000"))
    return {
        "nats connections": told["num_connections"],
        "nats subscriptions": sum(connection["subscriptions"] for connection in told["connections"]),
    }


async def _rows(data_dir: Path) -> Census:
    url = tomllib.loads((data_dir / "cluster.toml").read_text())["database_url"]
    connection = await asyncpg.connect(re.sub(r"^\w+(\+\w+)?:", "postgresql:", url))
    try:
        # A count that is days old in the statistics is exact here.
        tables = await connection.fetch(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(relname) AS name, relname, n_dead_tup AS dead,"
            " pg_total_relation_size(relid) / 1024 AS kib FROM pg_stat_user_tables ORDER BY relname"
        )
        census: Census = {}
        for table in tables:
            with suppress(asyncpg.UndefinedTableError):
                census[f"rows {table['relname']}"] = await connection.fetchval(f"SELECT count(*) FROM {table['name']}")
                census[f"dead {table['relname']}"] = table["dead"]
                census[f"kib {table['relname']}"] = table["kib"]
    finally:
        await connection.close()
    return census
