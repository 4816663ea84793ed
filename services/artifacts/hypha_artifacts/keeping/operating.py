from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypha_artifacts.core import Core
from hypha_common.db import Database
from hypha_common.errors import Unavailable
from hypha_common.operating import operator_bus, print_rows, run
from hypha_common.partition_keeper import find_partitions

from .export import Exporter
from .loose import count_due
from .orphans import remove_orphans
from .sweep import Sweep
from .verify import Report, Verifier

if TYPE_CHECKING:
    import argparse

    from hypha_common.settings import Settings

__all__ = ["collect_garbage", "export", "list_artifacts", "open_core", "verify", "with_core"]

_PAGE = 1000
_LIST = """
    SELECT a.id, a.workspace, a.alias, a.type, a.version_count, a.file_count, a.intent, a.last_modified,
           (SELECT count(*) FROM artifact_versions v WHERE v.artifact_id = a.id) AS versions,
           (SELECT coalesce(sum(b.size), 0) FROM artifact_files f JOIN blobs b ON b.id = f.blob_id
            WHERE f.artifact_id = a.id)::bigint AS bytes
    FROM artifacts a
    WHERE ($1::text IS NULL OR a.workspace = $1) AND (a.workspace, a.alias) > ($2, $3)
    ORDER BY a.workspace, a.alias LIMIT $4
"""


@asynccontextmanager
async def open_core(settings: Settings) -> AsyncIterator[Core]:
    """Connect to bus, databases and store. Raises ConfigurationError or Unavailable."""
    settings.require("nats_url", "database_url", "endpoint_url")
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(operator_bus(settings))
        database = Database.from_settings(settings, "hypha-operator")
        await database.connect()
        stack.push_async_callback(database.close)
        await find_partitions(database)
        core = Core.of(settings, bus, database)
        stack.push_async_callback(core.store.close)
        await core.store.open()
        yield core


def with_core(settings: Settings, work: Callable[[Core], Awaitable[int | None]]) -> int | None:
    """Run an operator's command on a cluster."""

    async def connected() -> int | None:
        async with open_core(settings) as core:
            return await work(core)

    return run(settings, connected())


def collect_garbage(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Sweep once, now; print what was removed, or what would be."""

    async def work(core: Core) -> int | None:
        sweep = Sweep(core, grace_s=0.0 if parsed.now else None)
        done: Counter[str] = Counter()
        for shard in core.database.all():
            if parsed.dry_run:
                done.update(await count_due(shard, grace=sweep.grace, slack=sweep.slack))
            else:
                done.update(await sweep.sweep(shard, seize=True) or {})
        if parsed.orphans:
            grace_s = sweep.grace.total_seconds()
            done += await remove_orphans(core, grace_s=grace_s, holder=sweep.holder, dry_run=parsed.dry_run)
        _tell(done, parsed)
        return 1 if done["stuck"] else None

    return with_core(settings, work)


def verify(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Compare rows and objects; status 1 where something is wrong."""

    async def work(core: Core) -> int | None:
        if core.database.map.disturbed:  # two databases have the same rows, and only one of them is kept up to date
            raise Unavailable("A partition is being moved: `hypha-workspace partitions check` says what is to be done")
        report = await Verifier(core, workspace=parsed.workspace, deep=parsed.deep).run()
        _tell_report(report, parsed)
        return 1 if report.findings else None

    return with_core(settings, work)


def export(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Write artifacts to a folder; status 1 where bytes are missing."""

    async def work(core: Core) -> int | None:
        exporter = Exporter(core, Path(parsed.folder), with_secrets=parsed.with_secrets)
        await exporter.export(parsed.what)
        for failure in exporter.failures:
            print(f"not exported: {failure}", file=sys.stderr)  # noqa: T201 it talks to a person
        done = exporter.written
        print(f"{done['artifacts']} artifacts, {done['files']} files, {done['bytes']} bytes")  # noqa: T201
        return 1 if exporter.failures else None

    if parsed.with_secrets:
        settings.require("jwt_secret")
    return with_core(settings, work)


def list_artifacts(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print the artifacts of a workspace, or all: name, id, type, versions, files, bytes of all versions, state."""

    async def work(core: Core) -> None:
        shards = core.database.all() if parsed.workspace is None else [core.database.for_workspace(parsed.workspace)]
        rows = []
        for shard in shards:
            last = ("", "")
            while page := await shard.fetch(_LIST, parsed.workspace, *last, _PAGE):
                rows += [_listed(row) for row in page if core.database.owns(shard, row["workspace"])]
                last = (page[-1]["workspace"], page[-1]["alias"])
        print_rows(rows, parsed)

    return with_core(settings, work)


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "artifact": f"{row['workspace']}/{row['alias']}",
        "id": str(row["id"]),
        "type": row["type"],
        "versions": row["versions"],
        "files": row["file_count"],
        "bytes": row["bytes"],
        "state": "staged" if row["intent"] else "committed",
        "last_modified": row["last_modified"],
    }


def _tell(done: Counter[str], parsed: argparse.Namespace) -> None:
    if parsed.json:
        print(json.dumps(dict(done)))  # noqa: T201 it talks to a program
        return
    words = [f"{number} {kind.replace('_', ' ')}" for kind, number in sorted(done.items()) if number]
    print(", ".join(words) or "nothing to do")  # noqa: T201 it talks to a person


def _tell_report(report: Report, parsed: argparse.Namespace) -> None:
    rows = [asdict(finding) for finding in report.findings]
    if parsed.json:
        print(json.dumps({"checked": dict(report.checked), "findings": rows}, indent=2))  # noqa: T201
        return
    print_rows(rows, parsed)
    looked = ", ".join(f"{number} {kind}" for kind, number in sorted(report.checked.items()))
    print(f"{len(rows)} findings; looked at {looked or 'nothing'}", file=sys.stderr)  # noqa: T201
