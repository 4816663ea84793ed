"""Rows and objects are compared: nothing is found where all is well, and each kind of damage is."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from hypha_artifacts.core import Core
from hypha_artifacts.keeping.orphans import remove_orphans
from hypha_artifacts.keeping.verify import Verifier
from hypha_common.db import Shard

from .kept_rows import WORKSPACE, commit_files, key_of, loose_blob, make_artifact, stage_file


@pytest.fixture
async def core(core: Core) -> Core:
    """One artifact with two files and a draft, in a store without anything else that is lost."""
    await remove_orphans(core, grace_s=-60, holder="test")
    artifact = await make_artifact(core, WORKSPACE, "shelf")
    await commit_files(core, WORKSPACE, "shelf", artifact, {"a.txt": b"first", "dir/b.txt": b"second"})
    await stage_file(core, WORKSPACE, "shelf", artifact, "c.txt", b"third")
    return core


def shard_of(core: Core) -> Shard:
    return core.database.for_workspace(WORKSPACE)


async def kinds(core: Core, *, deep: bool = False) -> list[str]:
    report = await Verifier(core, deep=deep, workspace=WORKSPACE, second_look_s=0.01).run()
    return sorted(finding.kind for finding in report.findings)


async def some_key(core: Core, path: str) -> str:
    key = await shard_of(core).fetchval("SELECT key FROM blobs WHERE key LIKE '%/' || $1", path)
    assert isinstance(key, str)
    return key


async def test_nothing_is_found_where_all_is_well(core: Core) -> None:
    report = await Verifier(core, deep=True, second_look_s=0.01).run()
    assert report.findings == []
    assert (report.checked["rows"], report.checked["objects"], report.checked["stored"]) == (3, 3, 3)


@pytest.mark.parametrize("path", ["a.txt", "c.txt"])
async def test_bytes_that_are_missing(core: Core, path: str) -> None:
    await core.store.delete([await some_key(core, path)])
    assert await kinds(core) == ["missing"]


async def test_bytes_that_are_not_those_that_were_committed(core: Core) -> None:
    key = await some_key(core, "a.txt")
    await core.store.write(key, b"much longer", content_type="text/plain")
    assert await kinds(core) == ["wrong_size"]
    await core.store.write(key, b"FIRST", content_type="text/plain")
    assert await kinds(core) == ["wrong_etag"]
    # A store that does not notice that its bytes rot.
    stored = await core.store.head(key)
    assert stored is not None
    await shard_of(core).execute("UPDATE blobs SET etag = $2 WHERE key = $1", key, stored.etag)
    assert await kinds(core, deep=True) == []


async def test_only_reading_all_bytes_finds_what_the_store_hides(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    read = core.store.read

    async def rotten(_store: object, key: str, **piece: int) -> bytes:
        return (await read(key, **piece)).replace(b"second", b"sexond")

    monkeypatch.setattr(type(core.store), "read", rotten)
    assert await kinds(core) == []
    assert await kinds(core, deep=True) == ["wrong_bytes"]


async def test_rows_that_disagree(core: Core) -> None:
    await shard_of(core).execute("UPDATE artifacts SET file_count = 7")
    assert await kinds(core) == ["miscounted"]
    await shard_of(core).execute("UPDATE artifacts SET file_count = 2")
    key = await some_key(core, "a.txt")
    await shard_of(core).execute("UPDATE blobs SET sealed = false, size = NULL WHERE key = $1", key)
    assert await kinds(core) == ["unsealed", "unsettled"]


async def test_what_nothing_refers_to(core: Core) -> None:
    """Waiting for the sweep is no fault; that it does not come is one, or that it would never come."""
    blob = await loose_blob(core, WORKSPACE, "shelf", "loose", b"1")
    assert await kinds(core) == []
    await shard_of(core).execute("UPDATE loose_blobs SET since = now() - interval '1 d'")
    await shard_of(core).execute("UPDATE blobs SET writable_until = now() - interval '1 d'")
    assert await kinds(core) == ["overdue"]
    await shard_of(core).execute("DELETE FROM loose_blobs WHERE blob_id = $1", blob)
    assert await kinds(core) == ["forgotten"]
    await shard_of(core).execute("INSERT INTO loose_blobs VALUES ($1)", blob)
    key = await key_of(core, WORKSPACE, blob)
    await shard_of(core).execute("INSERT INTO dead_objects VALUES ($1, '', now() - interval '1 d')", key)
    assert await kinds(core) == []  # of the whole cluster
    assert [finding.kind for finding in (await Verifier(core, second_look_s=0.01).run()).findings] == ["overdue"]
    await shard_of(core).execute("DELETE FROM dead_objects")


async def test_objects_that_no_row_stands_for(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verifier, "_young", lambda _: float("inf"), raising=True)
    folder = (await some_key(core, "a.txt")).rpartition("/")[0]
    lost = [f"artifacts/{WORKSPACE}/shelf/{uuid4()}/lost", f"{folder}/z.txt"]
    for key in lost:
        await core.store.write(key, b"1", content_type="text/plain")
    assert await kinds(core) == ["orphan", "orphan", "shared_folder"]
    await core.store.delete(lost)


async def test_what_is_in_motion_is_no_fault(core: Core) -> None:
    """Files are committed, deleted and swept all the while; what is seen half done is looked at again."""
    stop = asyncio.Event()

    async def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            artifact = await make_artifact(core, WORKSPACE, f"churn-{number}")
            await commit_files(core, WORKSPACE, f"churn-{number}", artifact, {"a": b"1", "b": b"2"})
            key = await some_key(core, "a")
            await shard_of(core).execute("DELETE FROM artifacts WHERE id = $1", artifact)
            await core.store.delete([key])
            await shard_of(core).execute("DELETE FROM blobs WHERE key = $1", key)

    churning = asyncio.create_task(churn())
    for _ in range(3):
        report = await Verifier(core, workspace=WORKSPACE, second_look_s=0.3).run()
        assert report.findings == []
    stop.set()
    await churning
