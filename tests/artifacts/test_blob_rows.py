"""Objects: announced, written, settled, sealed."""

from __future__ import annotations

import httpx
import pytest

from hypha_artifacts.files import Blob, BlobRows
from hypha_artifacts.files.draft_rows import StagedFile, open_draft, stage
from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.record import Artifact
from hypha_common.errors import Conflict, NotFound, PermissionDenied
from tests.artifacts.rows import add_artifact


class Drafts:
    """Puts objects into the draft of an artifact as clients would."""

    def __init__(self, service: ArtifactsService) -> None:
        self.core = service.core
        self.blobs = BlobRows(service.core)

    async def announce(
        self, artifact: Artifact, *paths: str, direct: bool = False, writable_s: float = 60
    ) -> list[Blob]:
        async with self.core.rows.shard(artifact.name).transaction() as connection:
            draft = await open_draft(connection, artifact.id)
            blobs = await self.blobs.announce(connection, artifact, paths, writable_s=writable_s, direct=direct)
            await stage(connection, draft, [StagedFile(blob.path, blob.id) for blob in blobs])
        return blobs

    async def seal(self, artifact: Artifact) -> bool:
        async with self.core.rows.shard(artifact.name).transaction() as connection:
            return await self.blobs.seal(connection, artifact)

    async def staged(self, artifact: Artifact) -> dict[str, tuple[str, int, str]]:
        rows = await self.core.rows.shard(artifact.name).fetch(
            "SELECT s.path, b.key, b.size, b.content_type "
            "FROM artifact_staged_files s JOIN blobs b ON b.id = s.blob_id WHERE s.artifact_id = $1",
            artifact.id,
        )
        return {row["path"]: (row["key"], row["size"], row["content_type"]) for row in rows}


@pytest.fixture
def drafts(services: ArtifactsService) -> Drafts:
    return Drafts(services)


async def test_what_was_written_is_settled(drafts: Drafts) -> None:
    """Objects that were heard of and others that were not; the first missing one is named."""
    artifact = await add_artifact(drafts.core, staged=True)
    a, b, c = await drafts.announce(artifact, "a.txt", "b/ü %.png", "c")
    await drafts.core.store.write(a.key, b"123", content_type="text/plain")
    await drafts.blobs.writable(b.key)
    await drafts.core.store.write(b.key, b"1234", content_type="text/plain")
    await drafts.blobs.stored(b.key, 4, "etag", "application/octet-stream")
    assert not await drafts.seal(artifact)
    with pytest.raises(NotFound, match=r"File 'c' does not exist in the artifact\."):
        await drafts.blobs.settle(artifact)
    await drafts.core.store.write(c.key, b"", content_type="text/plain")
    await drafts.blobs.settle(artifact)
    found = await drafts.staged(artifact)
    assert found["a.txt"] == (a.key, 3, "text/plain")
    assert found["b/ü %.png"] == (b.key, 4, "image/png")
    assert found["c"] == (c.key, 0, "text/plain")
    assert await drafts.seal(artifact)


async def test_nobody_writes_what_is_sealed_or_expired(drafts: Drafts) -> None:
    artifact = await add_artifact(drafts.core, staged=True)
    (blob,) = await drafts.announce(artifact, "a")
    await drafts.blobs.writable(blob.key)
    await drafts.blobs.stored(blob.key, 1, "etag", None)
    assert await drafts.seal(artifact)
    with pytest.raises(Conflict):
        await drafts.blobs.writable(blob.key)
    with pytest.raises(Conflict):
        await drafts.blobs.stored(blob.key, 2, "etag", None)
    (late,) = await drafts.announce(artifact, "b", writable_s=-61)
    with pytest.raises(PermissionDenied):
        await drafts.blobs.writable(late.key)
    for key in (blob.key + "x/../..", "artifacts/ws/a/b/c", "x", blob.key.replace("/a", "/b")):
        with pytest.raises(NotFound):
            await drafts.blobs.writable(key)


@pytest.mark.parametrize("how", ["direct", "in flight", "two writers"])
async def test_what_may_still_change_is_copied(drafts: Drafts, how: str) -> None:
    """An address in somebody's hands does not change what was committed."""
    artifact = await add_artifact(drafts.core, staged=True)
    (blob,) = await drafts.announce(artifact, "a.txt", direct=how == "direct")
    if how != "direct":
        await drafts.blobs.writable(blob.key)
    if how == "two writers":
        await drafts.blobs.writable(blob.key)
        await drafts.blobs.stored(blob.key, 3, "etag", None)
    address = drafts.core.store.address("PUT", blob.key)
    async with httpx.AsyncClient() as http:
        await http.put(address, content=b"committed")
        await drafts.blobs.settle(artifact)
        assert await drafts.seal(artifact)
        await http.put(address, content=b"changed")
    key, size, kind = (await drafts.staged(artifact))["a.txt"]
    assert key != blob.key
    assert (size, kind) == (9, "text/plain; charset=utf-8")
    assert await drafts.core.store.read(key) == b"committed"


async def test_copies_of_files_are_staged(drafts: Drafts) -> None:
    """Files of a version become files of another artifact's draft."""
    source = await add_artifact(drafts.core, files={"a/b.txt": b"one", "ü": b"two"})
    target = await add_artifact(drafts.core, staged=True)
    assert await drafts.blobs.copy(source, 0, target) == 2
    await drafts.core.store.delete([blob.key async for blob in drafts.core.store.list(f"artifacts/{source.name}/")])
    found = await drafts.staged(target)
    assert {path: await drafts.core.store.read(key) for path, (key, _, _) in found.items()} == {
        "a/b.txt": b"one",
        "ü": b"two",
    }
    assert await drafts.seal(target)
