"""What nothing refers to goes, everything else stays; interrupted anywhere, the next pass finishes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from hypha_artifacts.core import Core
from hypha_artifacts.files import BlobRows
from hypha_artifacts.keeping import loose
from hypha_artifacts.keeping.orphans import remove_orphans
from hypha_artifacts.keeping.sweep import LEASE, LEASES, Sweep
from hypha_common.db import Shard
from hypha_common.errors import Conflict, Unavailable
from hypha_common.lease import Lease, LeaseLost

from .kept_rows import WORKSPACE, commit_files, key_of, loose_blob, make_artifact, stage_file

AT_ONCE = timedelta()


def shard_of(core: Core) -> Shard:
    return core.database.for_workspace(WORKSPACE)


async def object_there(core: Core, key: str | None) -> bool:
    assert key is not None
    return await core.store.head(key) is not None


async def keys_of_artifact(core: Core, artifact: UUID) -> list[str]:
    rows = await shard_of(core).fetch(
        "SELECT b.key FROM artifact_files f JOIN blobs b ON b.id = f.blob_id WHERE f.artifact_id = $1", artifact
    )
    return [row["key"] for row in rows]


async def sweep(core: Core, **options: float) -> dict[str, int]:
    swept = await Sweep(core, **options).sweep(shard_of(core))
    assert swept is not None
    return dict(swept)


async def test_what_nothing_refers_to_goes(core: Core) -> None:
    """Of an artifact that was deleted, and of a file that was never staged; files in use and staged ones stay."""
    kept = await make_artifact(core, WORKSPACE, "kept")
    await commit_files(core, WORKSPACE, "kept", kept, {"a.txt": b"committed"})
    staged = await key_of(core, WORKSPACE, await stage_file(core, WORKSPACE, "kept", kept, "b.txt", b"staged"))
    gone = await make_artifact(core, WORKSPACE, "gone")
    await commit_files(core, WORKSPACE, "gone", gone, {"a.txt": b"1", "b.txt": b"2"})
    deleted = await keys_of_artifact(core, gone)
    never = await key_of(core, WORKSPACE, await loose_blob(core, WORKSPACE, "x", "never", b"staged"))
    await shard_of(core).execute("DELETE FROM artifacts WHERE id = $1", gone)

    assert await sweep(core) == {"object": 3, "in_use": 2}

    assert not any([await object_there(core, key) for key in [*deleted, never]])
    assert all([await object_there(core, key) for key in [*await keys_of_artifact(core, kept), staged]])
    assert await shard_of(core).fetchval("SELECT count(*) FROM blobs WHERE key = ANY($1)", [*deleted, never]) == 0
    assert await sweep(core) == {}


async def test_the_grace_period_is_kept(core: Core) -> None:
    """Counted from when the last reference went; what somebody may be writing stays until that must have ended."""
    blob = await loose_blob(core, WORKSPACE, "x", "grace", b"1")
    key = await key_of(core, WORKSPACE, blob)
    assert await sweep(core, grace_s=60) == {}
    await shard_of(core).execute("UPDATE loose_blobs SET since = now() - interval '61 s' WHERE blob_id = $1", blob)
    for writer in ("direct", "writing"):
        await shard_of(core).execute(
            f"UPDATE blobs SET writable_until = now() + interval '1 h', {writer} = true WHERE id = $1", blob
        )
        assert await sweep(core, grace_s=60) == {}
        await shard_of(core).execute(f"UPDATE blobs SET {writer} = false WHERE id = $1", blob)
    assert await sweep(core, grace_s=60) == {"object": 1}
    assert not await object_there(core, key)


async def test_a_killed_pass_is_finished_by_the_next(core: Core) -> None:
    """Stopped after the rows, and after the objects; the dead process's lease has to run out first."""
    first = await key_of(core, WORKSPACE, await loose_blob(core, WORKSPACE, "x", "1", b"1"))
    lease = await Lease.take(shard_of(core), LEASES, LEASE, "killed")
    assert lease is not None
    assert (await loose.bury(lease, grace=AT_ONCE)).dropped == 1
    assert await object_there(core, first)  # killed here

    assert await Sweep(core).sweep(shard_of(core)) is None
    await shard_of(core).execute("UPDATE artifact_leases SET expires_at = now() WHERE name = $1", LEASE)
    assert await sweep(core) == {"object": 1}
    assert not await object_there(core, first)

    second = await key_of(core, WORKSPACE, await loose_blob(core, WORKSPACE, "x", "2", b"2"))
    lease = await Lease.take(shard_of(core), LEASES, LEASE, "killed")
    assert lease is not None
    await loose.bury(lease, grace=AT_ONCE)
    assert second is not None
    await core.store.delete([second])  # killed here
    await lease.release()
    assert await sweep(core) == {"object": 1}
    assert await loose.dead_objects(shard_of(core)) == []


async def test_one_that_lost_its_lease_writes_nothing(core: Core) -> None:
    blob = await loose_blob(core, WORKSPACE, "x", "late", b"1")
    late = await Lease.take(shard_of(core), LEASES, LEASE, "late")
    assert late is not None
    await shard_of(core).execute("UPDATE artifact_leases SET expires_at = now() WHERE name = $1", LEASE)
    other = await Lease.take(shard_of(core), LEASES, LEASE, "other")
    assert other is not None
    assert other.epoch == late.epoch + 1
    with pytest.raises(LeaseLost):
        await loose.bury(late, grace=AT_ONCE)
    await late.release()  # not the other's
    assert await Lease.take(shard_of(core), LEASES, LEASE, "third") is None
    third = await Lease.take(shard_of(core), LEASES, LEASE, "third", seize=True)  # as an operator does
    assert third is not None
    with pytest.raises(LeaseLost):
        await other.save("x")
    await third.release()
    assert await key_of(core, WORKSPACE, blob) is not None
    await other.release()


async def test_a_reference_that_comes_or_goes_meanwhile_wins(core: Core) -> None:
    """A file that another transaction is adding or removing at this moment is left for the next pass."""
    artifact = await make_artifact(core, WORKSPACE, "raced")
    seq = await commit_files(core, WORKSPACE, "raced", artifact, {"old": b"1"})
    await sweep(core)
    new = await loose_blob(core, WORKSPACE, "raced", "new", b"2")
    async with shard_of(core).transaction() as connection:
        await connection.execute("INSERT INTO artifact_files VALUES ($1, $2, 'new', $3)", artifact, seq, new)
        await connection.execute("DELETE FROM artifact_files WHERE artifact_id = $1 AND path = 'old'", artifact)
        assert await sweep(core) == {}
    assert await sweep(core) == {"object": 1, "in_use": 1}
    (key,) = await keys_of_artifact(core, artifact)
    assert await core.store.read(key) == b"2"


async def test_expired_uploads_are_aborted_in_the_store(core: Core) -> None:
    """The parts go whether the upload expired or its artifact was deleted; one that runs stays."""
    uploads = {}
    for alias in ("expired", "deleted", "running"):
        artifact = await make_artifact(core, WORKSPACE, f"upload-{alias}")
        blob = await stage_file(core, WORKSPACE, f"upload-{alias}", artifact, "big", None)
        key = await key_of(core, WORKSPACE, blob)
        assert key is not None
        upload = await core.store.begin_upload(key, content_type="text/plain")
        await shard_of(core).execute(
            "INSERT INTO artifact_uploads (id, artifact_id, path, blob_id, store_upload_id, part_count, expires_at) "
            "VALUES ($1, $2, 'big', $3, $4, 1, now() + $5)",
            alias, artifact, blob, upload, timedelta(hours=-1 if alias == "expired" else 1),
        )  # fmt: skip
        uploads[alias] = (key, upload)
    await shard_of(core).execute("DELETE FROM artifacts WHERE alias = 'upload-deleted'")
    assert (await sweep(core))["upload"] == 1
    assert await loose.dead_objects(shard_of(core)) == []
    known = {identifier async for _, identifier, _ in core.store.uploads("artifacts/")}
    assert known & {upload for _, upload in uploads.values()} == {uploads["running"][1]}


async def test_a_store_that_is_away_costs_nothing_but_time(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await key_of(core, WORKSPACE, await loose_blob(core, WORKSPACE, "x", "away", b"1"))

    async def fail(*_: object) -> None:
        raise Unavailable("The store is not available")

    with monkeypatch.context() as patch:
        patch.setattr(type(core.store), "delete", fail)
        patch.setattr(type(core.store), "ping", fail)
        with pytest.raises(Unavailable):
            await sweep(core)
    assert await object_there(core, key)
    assert await sweep(core) == {"object": 1}


async def test_what_the_store_does_not_let_go_holds_up_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, free = [await key_of(core, WORKSPACE, await loose_blob(core, WORKSPACE, "x", n, b"1")) for n in "ab"]
    delete = core.store.delete

    async def refuse(store: object, keys: list[str]) -> None:
        if stuck in keys:
            raise Unavailable("The store did not delete 1 objects: locked")
        await delete(keys)

    with monkeypatch.context() as patch:
        patch.setattr(type(core.store), "delete", refuse)
        assert await sweep(core) == {"object": 1, "stuck": 1}
    assert await object_there(core, stuck)
    assert not await object_there(core, free)
    assert await sweep(core) == {"object": 1}


async def test_artifacts_of_departed_workspaces_go(core: Core) -> None:
    """Not at the first look: their workspace has to be missed for the grace period."""
    departed = f"ws-{uuid4().hex}"
    kept = await make_artifact(core, WORKSPACE, "stays")
    artifact = await make_artifact(core, departed, "leaves")
    await commit_files(core, departed, "leaves", artifact, {"a": b"1", "b": b"2"})
    slow = Sweep(core, grace_s=0)
    slow._departure_grace = timedelta(hours=1)
    assert "artifact" not in (await slow.sweep(core.database.for_workspace(departed)) or {})
    assert (await sweep(core))["artifact"] == 1
    count = "SELECT count(*) FROM artifacts WHERE id = ANY($1)"
    assert await shard_of(core).fetchval(count, [artifact, kept]) == 1
    assert await shard_of(core).fetchval("SELECT count(*) FROM missed_workspaces") == 0


async def test_objects_without_rows_go_only_when_asked(core: Core) -> None:
    known = await key_of(core, WORKSPACE, await loose_blob(core, WORKSPACE, "x", "known", b"1"))
    lost = f"artifacts/{WORKSPACE}/x/{uuid4()}/lost"
    await core.store.write(lost, b"12345", content_type="text/plain")
    upload = await core.store.begin_upload(f"{lost}-in-parts", content_type="text/plain")
    await sweep(core, grace_s=60)
    assert await object_there(core, lost)
    found = await remove_orphans(core, grace_s=3600, holder="test")
    assert found["orphan"] == 0
    found = await remove_orphans(core, grace_s=-5, holder="test", dry_run=True)
    assert found["orphan"] >= 1
    assert await object_there(core, lost)
    assert upload in [identifier async for _, identifier, _ in core.store.uploads("artifacts/")]
    await remove_orphans(core, grace_s=-5, holder="test")
    assert upload not in [identifier async for _, identifier, _ in core.store.uploads("artifacts/")]
    assert not await object_there(core, lost)
    assert await object_there(core, known)


async def test_a_write_that_ends_after_its_row_was_swept_leaves_nothing(core: Core) -> None:
    key = await key_of(core, WORKSPACE, await loose_blob(core, WORKSPACE, "x", "slow", None))
    assert key is not None
    await sweep(core)
    written = await core.store.write(key, b"late", content_type="text/plain")
    with pytest.raises(Conflict):
        await BlobRows(core).stored(key, written.size, written.etag, None)
    assert await sweep(core) == {"object": 1}
    assert not await object_there(core, key)


async def test_two_sweeps_at_once_do_it_once(core: Core) -> None:
    for n in range(20):
        await loose_blob(core, WORKSPACE, "x", str(n), b"1")
    done = await asyncio.gather(*(Sweep(core).sweep(shard_of(core)) for _ in range(4)))
    assert sum(swept["object"] for swept in done if swept is not None) == 20
