"""Every kind of process exposes what deploy/observability/metrics.json says, and no more than it should."""

from __future__ import annotations

import asyncio
import json

import httpx

from tests.cluster.raw_client import CallFailed, raw_client
from tests.cluster.running_cluster import RunningCluster

from .exposed import TABLE, Family, exposed

_KINDS = {"apps", "artifacts", "auth", "browser-worker", "gateway", "workspace"}
_MOST_VALUES = 150  # of one label: methods and routes of ours
_ODD = "odd-9f3c"  # in whatever a caller may choose


def test_processes_expose_what_the_table_says(apps_cluster: RunningCluster) -> None:
    kinds = exposed(apps_cluster)
    assert set(kinds) == _KINDS
    for kind, families in kinds.items():
        wanted = {name: row["type"] for name, row in TABLE.items() if kind in _processes(row)}
        # Some belong to parts of a process that are loaded when they are first needed.
        assert {name: family.type for name, family in families.items()}.items() <= wanted.items(), kind
        assert {"asyncio_tasks", "eventloop_lag_seconds", "hypha_build_info"} <= set(families), kind
    for name, row in TABLE.items():
        for kind in _processes(row) & _KINDS:
            if name in kinds[kind] and (labels := kinds[kind][name].labels):
                assert sorted(labels) == row["labels"], name
        assert any(name in kinds[kind] for kind in _processes(row) & _KINDS), f"nobody exposes {name}"


async def test_callers_make_no_series(apps_cluster: RunningCluster) -> None:
    """Odd methods, paths, statuses and ids are counted, each under a word of ours."""
    before = exposed(apps_cluster)["gateway"]["http_requests_total"].samples
    async with httpx.AsyncClient(base_url=apps_cluster.url) as http:
        for number in range(20):
            await http.request(f"{_ODD.upper()}{number}".replace("-", ""), f"/{_ODD}-{number}")
            await http.get(f"/{_ODD}-{number}/services/{_ODD}/{_ODD}{number}")
            await http.get(f"/{_ODD}{number}/{_ODD}/{_ODD}", headers={"authorization": f"Bearer {_ODD}{number}"})
    async with raw_client(apps_cluster.url, f"{_ODD}-client") as client:
        for number in range(20):
            for method in (
                f"services.default.{_ODD}{number}",
                f"services.{_ODD}{number}.call",
                f"{_ODD}{number}.resolve",
            ):
                await _fails(client.call(method))
            await _fails(client.call("services.x.y", to=f"{client.workspace}/{_ODD}-{number}"))
        await client.send({"type": f"{_ODD}-event", "to": "*"})
    kinds = exposed(apps_cluster)
    values = [
        (name, label, found)
        for families in kinds.values()
        for name, family in families.items()
        for label, found in family.labels.items()
    ]
    assert [row for row in values if len(row[2]) > _MOST_VALUES] == []
    assert [row for row in values if _ODD in json.dumps(sorted(row[2])).lower()] == []
    # A new route or method of HTTP may have come into use, but not one for each request.
    assert kinds["gateway"]["http_requests_total"].samples - before < 20
    assert _value(kinds["workspace"]["rpc_call_total"], "method") >= {"unknown"}


async def _fails(call: asyncio.Future[object] | object) -> None:
    try:
        async with asyncio.timeout(2):
            await call  # type: ignore[misc]
    except (CallFailed, TimeoutError):
        return


def _processes(row: dict[str, object]) -> set[str]:
    processes = row["processes"]
    assert isinstance(processes, list)
    return set(processes)


def _value(family: Family, label: str) -> set[str]:
    return family.labels[label]
