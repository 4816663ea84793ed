from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from hypha_common import cluster_file

from .command import add_kind_arguments, emit, kinds_of
from .cpu import CpuWindow
from .processes import ProcessTree
from .server_process import ServerProcess, start_server
from .stats import percentile

__all__ = ["CASES", "measure_listing"]

Report = dict[str, Any]

_COLLECTION = "gallery"
# Models as in a public zoo: half a kilobyte of manifest each.
_FILL = """
    INSERT INTO artifacts (id, workspace, alias, parent_id, type, manifest, config, version_count, file_count,
                           download_count, view_count, created_at, last_modified, created_by)
    SELECT (lpad(to_hex(1760000000000 + n), 12, '0') || '70008' || right(md5(n::text), 15))::uuid, p.workspace,
           'child-' || n, p.id, CASE WHEN n % 4 = 0 THEN 'dataset' ELSE 'model' END,
           jsonb_build_object(
               'name', 'Model number ' || n,
               'description', repeat('A network that segments nuclei in fluorescence images. ', 3) || md5(n::text),
               'tags', jsonb_build_array('tag' || n % 10, 'tag' || n % 97, 'segmentation'),
               'score', n * 7919 % 100003, 'license', CASE WHEN n % 3 = 0 THEN 'MIT' ELSE 'CC-BY-4.0' END,
               'authors', jsonb_build_array(jsonb_build_object('name', 'Author ' || n % 500)),
               'group', 'g' || n % 1000),
           jsonb_build_object('permissions', jsonb_build_object('user-' || n % 50, '*')), 1, n % 20,
           floor(1e6 / (1 + n * 31 % 100003)), floor(1e7 / (1 + n * 17 % 100003)), 1700000000 + n,
           1700000000 + n * 7919 % 1000003, 'user-' || n % 50
    FROM generate_series(1, $2::int) AS n, artifacts p WHERE p.id = $1
"""
_VERSIONS = """
    INSERT INTO artifact_versions (artifact_id, seq, name, comment, created_at, type, manifest, config)
    SELECT id, 0, 'v0', 'Initial version', created_at, type, '{}', '{}' FROM artifacts WHERE parent_id = $1
"""

_TOTAL = {"pagination": True}
_MIT = {"filters": {"manifest": {"license": "MIT"}}}  # a third
_GROUP = {"filters": {"manifest": {"group": "g5"}}}  # one in a thousand
CASES: dict[str, Report] = {
    "first page": {},
    "first page, total": _TOTAL,
    "page at 50,000, total": {**_TOTAL, "offset": 50_000},
    "newest, total": {**_TOTAL, "order_by": "created_at>"},
    "last changed, total": {**_TOTAL, "order_by": "last_modified>"},
    "most viewed, total": {**_TOTAL, "order_by": "view_count>"},
    "most downloaded, total": {**_TOTAL, "order_by": "download_count>"},
    "by manifest.score": {"order_by": "manifest.score>"},
    "by manifest.score, total": {**_TOTAL, "order_by": "manifest.score>"},
    "type (3 of 4), newest, total": {**_TOTAL, "filters": {"type": "model"}, "order_by": "created_at>"},
    "type (3 of 4), most viewed": {"filters": {"type": "model"}, "order_by": "view_count>"},
    "manifest value (1 of 1,000), most viewed, total": {**_TOTAL, **_GROUP, "order_by": "view_count>"},
    "manifest value (1 of 3), newest": {**_MIT, "order_by": "created_at>"},
    "manifest value (1 of 3), most viewed": {**_MIT, "order_by": "view_count>"},
    "manifest value (1 of 3), newest, total": {**_TOTAL, **_MIT, "order_by": "created_at>"},
    "tags (1 of 970), newest, total": {
        **_TOTAL, "filters": {"manifest": {"tags": ["tag3", "tag13"]}}, "order_by": "created_at>"
    },
    "keyword (1 of 500), total": {**_TOTAL, "keywords": ['author 77"']},
    "keyword (1 of 500), newest": {"keywords": ['author 77"'], "order_by": "created_at>"},
    "keyword (all)": {"keywords": ["nuclei"]},
    "keyword of two letters (1 of 50)": {"keywords": ["zz"]},
}  # fmt: skip


async def measure_listing(server: ServerProcess, data_dir: Path, token: str, *, children: int, count: int) -> Report:
    """Fill a collection by SQL, and time pages of 100 over RPC, and over HTTP."""
    url, tree = server.url, ProcessTree([server.pid])
    client = await connect_to_server({"server_url": url, "token": token, "method_timeout": 60})
    stranger = await connect_to_server({"server_url": url, "method_timeout": 60})
    try:
        artifacts = await _manager(client)
        made = await artifacts.create(
            alias=_COLLECTION, type="collection", manifest={"name": "Gallery"}, config={"permissions": {"*": "r"}}
        )
        print("filling", file=sys.stderr)
        filled_s = await _fill(data_dir, made["_id"], children)
        others = await _manager(stranger)
        foreign = {"workspace": client.config.workspace}
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            **{name: _call(artifacts.list, made["id"], asked) for name, asked in CASES.items()},
            "search of the workspace, total": _call(artifacts.search, None, _TOTAL),
            "search of the workspace by a stranger": _call(others.search, None, {"filters": foreign}),
            "search of the workspace by a stranger, total": _call(others.search, None, {**_TOTAL, "filters": foreign}),
        }
        report: Report = {"children": children, "filled_s": round(filled_s, 1), "cases": {}}
        async with httpx.AsyncClient(base_url=f"{url}/{client.config.workspace}/artifacts", timeout=60) as http:
            for name, call in calls.items():
                print(name, file=sys.stderr)
                report["cases"][name] = {"rpc": await _time(call, count, tree)}
                if name in CASES:
                    report["cases"][name]["http"] = await _time(_get(http, CASES[name]), count, tree)
    finally:
        await stranger.disconnect()
        await client.disconnect()
    return report


async def _manager(client: Any) -> Any:
    """The gateway may be ready before the artifacts service is."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await client.get_service("public/artifact-manager")
            except RemoteException:
                await asyncio.sleep(0.1)


def _call(method: Callable[..., Awaitable[Any]], parent_id: str | None, asked: Report) -> Callable[[], Awaitable[Any]]:
    return lambda: method(parent_id=parent_id, **asked)


def _get(http: httpx.AsyncClient, asked: Report) -> Callable[[], Awaitable[Any]]:
    texts = {
        "keywords": lambda value: ",".join(value),
        "filters": json.dumps,
    }
    query = {name: texts.get(name, str)(value) for name, value in asked.items()}

    async def get() -> None:
        answer = await http.get(f"/{_COLLECTION}/children", params=query)
        assert answer.status_code == 200, answer.text

    return get


async def _fill(data_dir: Path, parent: str, children: int) -> float:
    known = cluster_file.read(data_dir)
    assert known is not None
    connection = await asyncpg.connect(str(known["database_url"]))
    try:
        started = time.perf_counter()
        await connection.execute(_FILL, parent, children, timeout=600)
        await connection.execute(_VERSIONS, parent, timeout=600)
        filled_s = time.perf_counter() - started
        await connection.execute("VACUUM ANALYZE artifacts")  # as autovacuum does soon after
        return filled_s
    finally:
        await connection.close()


async def _time(call: Callable[[], Awaitable[Any]], count: int, server: ProcessTree) -> Report:
    """Return percentiles, and the CPU time that the server spends on a call, which other load changes less."""
    samples = []
    for _ in range(2):
        await call()
    with CpuWindow(server) as window:
        for _ in range(count):
            started = time.perf_counter()
            await call()
            samples.append(time.perf_counter() - started)
    report: Report = {
        name: round(percentile(samples, part) * 1e3, 1) for name, part in (("p50_ms", 0.5), ("p95_ms", 0.95))
    }
    cpu_ms = {role: round(used / count * 1e3, 1) for role, used in window.seconds.items() if role != "generator"}
    return {**report, "server_cpu_ms": {role: used for role, used in cpu_ms.items() if used >= 0.5}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Pages of 100 artifacts out of a large collection.")
    add_kind_arguments(parser)
    parser.add_argument("--children", type=int, default=100_000)
    parser.add_argument("--count", type=int, default=20, help="measurements of each case")
    arguments = parser.parse_args()
    token = secrets.token_hex(32)
    hub = kinds_of(arguments)["hub"]
    hub = replace(hub, environment={**hub.environment, "HYPHA_ROOT_TOKEN": token})
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, start_server(hub, Path(directory)) as server:
        report = asyncio.run(
            measure_listing(server, Path(directory), token, children=arguments.children, count=arguments.count)
        )
    emit("artifact_listing", report)


if __name__ == "__main__":
    main()
