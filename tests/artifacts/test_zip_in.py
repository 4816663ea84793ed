"""Looking into archives among an artifact's files, as a gateway does (contract 02 §3.4)."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile

import httpx
import pytest

from hypha_artifacts.archives.zip_directories import ZipDirectories
from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.record import Artifact
from hypha_common.errors import BadRequest, InternalError, NotFound, PayloadTooLarge, PermissionDenied
from hypha_common.plans import Fetch, Reply
from hypha_common.principal import Permission, Principal
from tests.artifacts.http_calls import fetch, plan_for, somebody
from tests.artifacts.rows import add_artifact, add_version
from tests.unit.test_zip_index import packed
from tests.unit.test_zip_writer import archive

CONTENT = {"readme.md": b"# Read me", "data/ü.bin": bytes(range(256)) * 4000, "data/sub/x": b"", "page.html": b"<p>"}


@pytest.fixture
async def artifact(services: ArtifactsService) -> Artifact:
    files = {"deflated.zip": packed(CONTENT), "sub dir/stored.zip": packed(CONTENT, 0), "text.txt": b"no archive" * 10}
    return await add_artifact(services.core, files=files)


async def listing(service: ArtifactsService, artifact: Artifact, at: str, **query: str) -> list[tuple[str, str]]:
    plan = await plan_for(service, "artifact_zip_files", artifact, path=at, query=list(query.items()))
    assert isinstance(plan, Reply)
    assert dict(plan.headers)["content-type"] == "application/json"
    return [(entry["type"], entry["name"]) for entry in json.loads(plan.body)]


@pytest.mark.parametrize("path", ["deflated.zip", "sub dir/stored.zip"])
async def test_folders_and_files(services: ArtifactsService, artifact: Artifact, path: str) -> None:
    """Named in the path behind ``/~/``, or by the query."""
    root = [("directory", "data"), ("file", "page.html"), ("file", "readme.md")]
    assert await listing(services, artifact, path) == root
    assert await listing(services, artifact, f"{path}/~/") == await listing(services, artifact, f"{path}/~") == root
    assert await listing(services, artifact, path, path="data/") == [("directory", "sub"), ("file", "ü.bin")]
    assert await listing(services, artifact, f"{path}/~/data/sub/") == [("file", "x")]
    for inner, content in CONTENT.items():
        for plan in (
            await plan_for(services, "artifact_zip_files", artifact, path=f"{path}/~/{inner}"),
            await plan_for(services, "artifact_zip_files", artifact, path=path, query=[("path", inner)]),
        ):
            response = await fetch(plan)
            assert response.content == content
            assert int(response.headers["content-length"]) == len(content)
    assert isinstance(plan, Fetch)
    assert dict(plan.headers) == {
        "content-type": "text/html; charset=utf-8",
        "content-disposition": 'attachment; filename="page.html"',
    }


async def test_names_in_headers_are_harmless(services: ArtifactsService) -> None:
    inner = 'a/"quoted\r\nset-cookie: x"ü%41.txt'
    artifact = await add_artifact(services.core, files={"a.zip": packed({inner: b"1"})})
    plan = await plan_for(services, "artifact_zip_files", artifact, path="a.zip", query=[("path", inner)])
    assert isinstance(plan, Fetch)
    shown = dict(plan.headers)["content-disposition"]
    assert shown == (
        'attachment; filename="_quoted__set-cookie: x___41.txt"; '
        "filename*=UTF-8''%22quoted%0D%0Aset-cookie%3A%20x%22%C3%BC%2541.txt"
    )


async def test_what_is_not_there(services: ArtifactsService, artifact: Artifact) -> None:
    async def error(at: str, **query: str) -> str:
        with pytest.raises((NotFound, InternalError, BadRequest)) as raised:
            await plan_for(services, "artifact_zip_files", artifact, path=at, query=list(query.items()))
        return f"{raised.value.status} {raised.value}"

    assert await error("nope.zip") == "404 ZIP file not found: nope.zip"
    assert await error("deflated.zip/~/nope") == "404 File not found inside ZIP: nope"
    assert await error("deflated.zip", path="data/../readme.md") == "404 File not found inside ZIP: data/../readme.md"
    assert await error("deflated.zip/~/data") == "404 File not found inside ZIP: data"
    assert (await error("text.txt")).startswith("500 Invalid ZIP file: ")
    assert (await error("../x.zip")).startswith("400 ")
    assert (await error("deflated.zip", version="v7")).startswith("400 ")


async def test_versions_are_different_archives(services: ArtifactsService, artifact: Artifact) -> None:
    await add_version(services.core, artifact, {"deflated.zip": packed({"new": b"new"})})
    assert await listing(services, artifact, "deflated.zip") == [("file", "new")]
    assert len(await listing(services, artifact, "deflated.zip", version="v0")) == 3


async def test_only_those_who_may_get_files(services: ArtifactsService, artifact: Artifact) -> None:
    with pytest.raises(PermissionDenied, match="Permission denied"):
        await plan_for(services, "artifact_zip_files", artifact, path="deflated.zip", user=Principal(id="stranger"))
    user = somebody(Permission.ADMIN, scopes=[f"get_file:{artifact.name}:deflated.zip"])
    with pytest.raises(PermissionDenied, match="Permission denied"):
        await plan_for(services, "artifact_zip_files", artifact, path="deflated.zip", user=user)


async def test_a_broken_member_is_cut(services: ArtifactsService) -> None:
    """Also where only the check sum tells: the last bytes wait for it. The local header may be broken, too."""
    plain = packed({"a": bytes(200_000)}, 0)
    changed = plain.replace(bytes(100), bytes(99) + b"x", 1)
    lost = b"PK\3\5" + plain[4:]
    artifact = await add_artifact(services.core, files={"changed.zip": changed, "lost.zip": lost})
    plan = await plan_for(services, "artifact_zip_files", artifact, path="changed.zip/~/a")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await fetch(plan)
    with pytest.raises(InternalError, match="Invalid ZIP file: a member is not where"):
        await plan_for(services, "artifact_zip_files", artifact, path="lost.zip/~/a")


async def test_many_members(services: ArtifactsService) -> None:
    """Their listing comes from the data port; the archive is read once."""
    data = archive([(f"{n:06}-{'x' * 30}", str(n).encode(), 0) for n in range(5000)])
    artifact = await add_artifact(services.core, files={"many.zip": data})
    response = await fetch(await plan_for(services, "artifact_zip_files", artifact, path="many.zip"))
    assert len(response.json()) == 5000
    async with asyncio.timeout(2):  # it is known now
        for n in (0, 4999):
            name = f"{n:06}-{'x' * 30}"
            plan = await plan_for(services, "artifact_zip_files", artifact, path=f"many.zip/~/{name}")
            assert (await fetch(plan)).text == str(n)


async def test_directories_are_read_once_and_forgotten_in_turn(
    services: ArtifactsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who ask at the same time wait for one reading; whoever stops waiting does not stop it."""
    store, reads = services.core.store, 0
    read = store.read

    async def counted(key: str, *, first: int = 0, size: int | None = None) -> bytes:
        nonlocal reads
        reads += 1
        return await read(key, first=first, size=size)

    monkeypatch.setattr(store, "read", counted)
    directories = ZipDirectories(store)
    sizes = {}
    for name in ("a", "b", "c"):
        data = packed({f"{name}{n}": b"" for n in range(100)})
        await store.write(f"artifacts/ws-a/zips/{name}", data, content_type="application/zip")
        sizes[name] = len(data)

    async def get(name: str) -> int:
        return len(await directories.get(f"artifacts/ws-a/zips/{name}", sizes[name]))

    leaving = asyncio.create_task(get("a"))
    others = [asyncio.create_task(get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    leaving.cancel()
    assert await asyncio.gather(*others) == [100] * 5
    assert reads == 1
    monkeypatch.setattr("hypha_artifacts.archives.zip_directories._MAX_CACHED_BYTES", 2 * 5500)
    assert (await get("b"), await get("c"), await get("b"), await get("c"), reads) == (100, 100, 100, 100, 3)
    assert (await get("a"), reads) == (100, 4)
    monkeypatch.setattr("hypha_artifacts.archives.zip_directories._MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(PayloadTooLarge):
        await get("b")


async def test_failures_are_not_kept(services: ArtifactsService) -> None:
    directories = ZipDirectories(services.core.store)
    key, data = "artifacts/ws-a/zips/late", packed({"a": b""})
    with pytest.raises(NotFound):
        await directories.get(key, len(data))
    await services.core.store.write(key, data, content_type="application/zip")
    assert len(await directories.get(key, len(data))) == 1


async def test_fields_of_8_bytes(services: ArtifactsService) -> None:
    """An archive of the standard library that uses them whatever the sizes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        with zipped.open(zipfile.ZipInfo("wide"), "w", force_zip64=True) as member:
            member.write(b"wide" * 1000)
        for n in range(3000):
            zipped.writestr(zipfile.ZipInfo(f"{n}"), b"")
    artifact = await add_artifact(services.core, files={"wide.zip": out.getvalue()})
    response = await fetch(await plan_for(services, "artifact_zip_files", artifact, path="wide.zip/~/wide"))
    assert response.content == b"wide" * 1000
