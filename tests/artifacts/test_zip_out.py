"""Archives of an artifact's files, as a gateway gets them (contract 02 §3.3)."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator

import httpx
import pytest

from hypha_artifacts.archives import read_ahead
from hypha_artifacts.blobs import blob_key
from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.record import Artifact
from hypha_artifacts.reference import new_uuid
from hypha_common.errors import BadRequest, NotFound, PermissionDenied
from hypha_common.plans import Fetch
from hypha_common.principal import Permission, Principal
from tests.artifacts.http_calls import fetch, plan_for, somebody, until_counted
from tests.artifacts.rows import add_artifact, add_version

FILES = {"b.txt": b"bee", "a/ü.bin": bytes(range(256)) * 5000, "a.txt": b"", "z/deep/er.txt": b"z" * 70_000}
STREAMED = {"large.bin": b"0123456789abcdef" * 2**16, **FILES}


async def archive_of(plan: object) -> dict[str, bytes]:
    response = await fetch(plan)  # type: ignore[arg-type]
    assert response.status_code == 200, response.text
    assert int(response.headers["content-length"]) == len(response.content)
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


async def test_all_files_in_the_order_of_their_paths(services: ArtifactsService) -> None:
    """Small and large ones, with the length known; the download counts when it is done."""
    config = {"download_weights": {"b.txt": 2, "z/deep/er.txt": 0.5, "not/there": 100}}
    artifact = await add_artifact(services.core, files=STREAMED, config=config)
    plan = await plan_for(services, "artifact_zip", artifact)
    assert isinstance(plan, Fetch)
    headers = dict(plan.headers)
    assert headers["content-type"] == "application/zip"
    assert headers["content-disposition"] == f'attachment; filename="{artifact.alias}.zip"'
    await until_counted(services, artifact)
    found = await archive_of(plan)
    assert found == STREAMED
    assert list(found) == sorted(STREAMED, key=str.encode)
    await until_counted(services, artifact, downloads=2.5)


async def test_some_files(services: ArtifactsService) -> None:
    """Each once, whatever way it is written; one that is not there is missing; what leaves the root is refused."""
    artifact = await add_artifact(services.core, files=FILES, config={"download_weights": {"create-zip-file": 7}})
    query = [("file", "b.txt"), ("file", "/a/./ü.bin"), ("file", "b.txt"), ("silent", "true")]
    found = await archive_of(await plan_for(services, "artifact_zip", artifact, query=query))
    assert found == {name: FILES[name] for name in ("a/ü.bin", "b.txt")}
    await until_counted(services, artifact)
    await archive_of(await plan_for(services, "artifact_zip", artifact, query=query[:1]))
    await until_counted(services, artifact, downloads=7)
    with pytest.raises(NotFound, match="File 'nope' does not exist in the artifact"):
        await plan_for(services, "artifact_zip", artifact, query=[("file", "nope"), ("file", "b.txt")])
    with pytest.raises(BadRequest, match="leads out of the root"):
        await plan_for(services, "artifact_zip", artifact, query=[("file", "../x")])


async def test_nothing_is_an_empty_archive(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files={})
    assert await archive_of(await plan_for(services, "artifact_zip", artifact)) == {}
    draft = await add_artifact(services.core, staged=True)
    assert await archive_of(await plan_for(services, "artifact_zip", draft)) == {}


async def test_versions_and_the_draft(services: ArtifactsService) -> None:
    """The draft lies over the version it edits: changed, added, removed, and announced but never sent."""
    artifact = await add_artifact(services.core, files={"kept": b"1", "changed": b"1", "removed": b"1"})
    await add_version(services.core, artifact, {"kept": b"2", "changed": b"2", "removed": b"2"})
    artifact = await services.core.access.known(artifact.name)
    await stage(services, artifact, "changed", b"draft", announce_only=False)
    await stage(services, artifact, "added", b"draft", announce_only=True)
    await stage(services, artifact, "never sent", None, announce_only=True)
    await stage(services, artifact, "removed", None, announce_only=False)

    async def get(**query: str) -> dict[str, bytes]:
        return await archive_of(await plan_for(services, "artifact_zip", artifact, query=list(query.items())))

    assert await get(version="v0") == {"kept": b"1", "changed": b"1", "removed": b"1"}
    assert await get() == await get(version="latest") == {"kept": b"2", "changed": b"2", "removed": b"2"}
    assert (
        await get(stage="true") == await get(version="stage") == {"kept": b"2", "changed": b"draft", "added": b"draft"}
    )
    assert await get(file="changed", stage="1") == {"changed": b"draft"}
    with pytest.raises(BadRequest, match="does not exist"):
        await get(version="v9")
    with pytest.raises(BadRequest, match="cannot specify a version"):
        await get(version="v0", stage="true")


async def stage(
    services: ArtifactsService, artifact: Artifact, path: str, data: bytes | None, *, announce_only: bool
) -> None:
    """Stage a file; ``announce_only``: nobody told the service what the store has of it. Neither: remove it."""
    shard, blob = services.core.rows.shard(artifact.name), None
    await shard.execute("UPDATE artifacts SET intent = 'edit_version' WHERE id = $1", artifact.id)
    if data is not None or announce_only:
        blob = new_uuid(artifact.workspace)
        key = blob_key(artifact.workspace, artifact.alias, blob, path)
        size = None if announce_only or data is None else len(data)
        if data is not None:
            await services.core.store.write(key, data, content_type="text/plain")
        await shard.execute(
            "INSERT INTO blobs (id, key, workspace, size, writable_until) VALUES ($1, $2, $3, $4, now())",
            blob, key, artifact.workspace, size,
        )  # fmt: skip
    await shard.execute("INSERT INTO artifact_staged_files VALUES ($1, $2, $3)", artifact.id, path, blob)


async def test_many_small_files(services: ArtifactsService) -> None:
    """More than a page of rows; reading ahead keeps their order."""
    artifact = await add_artifact(services.core, files={"x": b"one object"})
    shard = services.core.rows.shard(artifact.name)
    await shard.execute(
        "INSERT INTO artifact_files SELECT f.artifact_id, f.seq, 'many/' || n, f.blob_id "
        "FROM artifact_files f, generate_series(1, 2100) n WHERE f.artifact_id = $1",
        artifact.id,
    )
    found = await archive_of(await plan_for(services, "artifact_zip", artifact))
    assert len(found) == 2101
    assert set(found.values()) == {b"one object"}


@pytest.mark.parametrize("scope", ["get_file:ws-a/x:*", "put_file:ws-a/x:a.txt"])
async def test_tokens_of_single_files_open_no_archive(services: ArtifactsService, scope: str) -> None:
    artifact = await add_artifact(services.core, files=FILES)
    for route in ("artifact_zip", "artifact_zip_files"):
        with pytest.raises(PermissionDenied, match="Permission denied"):
            await plan_for(services, route, artifact, user=somebody(Permission.ADMIN, scopes=[scope]), path="a.zip")


async def test_strangers_get_nothing(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files=FILES)
    public = await add_artifact(services.core, files=FILES, config={"permissions": {"*": "r"}})
    stranger = Principal(id="stranger", is_anonymous=True)
    with pytest.raises(PermissionDenied, match="Permission denied"):
        await plan_for(services, "artifact_zip", artifact, user=stranger)
    assert await archive_of(await plan_for(services, "artifact_zip", public, user=stranger)) == FILES


async def test_an_object_that_is_gone_cuts_the_archive(services: ArtifactsService) -> None:
    """Whoever downloads it sees that it is not whole."""
    artifact = await add_artifact(services.core, files=STREAMED)
    shard = services.core.rows.shard(artifact.name)
    key = await shard.fetchval(
        "SELECT b.key FROM blobs b JOIN artifact_files f ON f.blob_id = b.id "
        "WHERE f.artifact_id = $1 AND f.path = 'z/deep/er.txt'", artifact.id,
    )  # fmt: skip
    await services.core.store.delete([key])
    with pytest.raises(httpx.RemoteProtocolError):
        await fetch(await plan_for(services, "artifact_zip", artifact))
    await until_counted(services, artifact)


async def test_nothing_is_read_for_a_reader_that_left(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files={f"{n}": bytes(2**20) for n in range(40)})
    plan = await plan_for(services, "artifact_zip", artifact)
    assert isinstance(plan, Fetch)
    before = len(asyncio.all_tasks())
    async with httpx.AsyncClient() as http, http.stream("GET", plan.url) as response:
        await anext(response.aiter_raw(1000))
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > before or services.data_port._streams:
            await asyncio.sleep(0.02)


async def test_reading_ahead_is_bounded(services: ArtifactsService, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files there are, only some are being read."""
    running = most = 0
    store, stream = services.core.store, services.core.store.stream

    async def counted(key: str, *, first: int = 0, size: int) -> AsyncIterator[bytes]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            async for chunk in stream(key, first=first, size=size):
                yield chunk
        finally:
            running -= 1

    monkeypatch.setattr(store, "stream", counted)
    artifact = await add_artifact(services.core, files={f"{n}": bytes(1000) for n in range(60)})
    await archive_of(await plan_for(services, "artifact_zip", artifact))
    assert 2 <= most <= read_ahead._MAX_READS
