"""Files over HTTP: what gateways are told to do, and what comes of it at the store."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from hypha_artifacts.core import Core
from hypha_artifacts.files import BlobRows
from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.manager.publishing import Publication, Publishing
from hypha_artifacts.record import Artifact
from hypha_common.errors import BadRequest, Conflict, NotFound, PayloadTooLarge, PermissionDenied
from hypha_common.plans import Fetch, Plan, Reply, Store
from hypha_common.principal import Permission
from tests.artifacts.http_calls import fetch, plan_for, put, somebody
from tests.artifacts.rows import add_artifact, set_draft

FILES = {"a.txt": b"0123456789", "d/ü %?#.html": b"<p>", "d/e/f": b"", "g": b"g"}
WRITER = somebody(Permission.READ_WRITE)


async def file_plan(service: ArtifactsService, artifact: Artifact, path: str, **options: Any) -> Plan:
    options["query"] = list(options.get("query", {}).items())
    return await plan_for(service, "artifact_files", artifact, path=path, **options)


async def put_plan(service: ArtifactsService, artifact: Artifact, path: str, **options: Any) -> Plan:
    return await file_plan(service, artifact, path, method="PUT", user=options.pop("user", WRITER), **options)


async def commit(core: Core, artifact: Artifact) -> None:
    await Publishing(core).publish(artifact, Publication(), lambda locked: True)


def answer(plan: Plan) -> Any:
    assert isinstance(plan, Reply)
    return json.loads(plan.body)


async def test_a_file_and_what_is_known_of_it(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files=FILES)
    plan = await file_plan(services, artifact, "d/ü %?#.html")
    assert isinstance(plan, Fetch)
    headers = dict(plan.headers)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["accept-ranges"] == "bytes"
    assert headers["last-modified"].endswith(" GMT")
    assert headers["etag"].startswith('"')
    assert "content-disposition" not in headers
    response = await fetch(plan)
    assert (response.status_code, response.content) == (200, b"<p>")
    head = await file_plan(services, artifact, "d/ü %?#.html", method="HEAD")
    assert isinstance(head, Reply)
    assert (head.status, head.body) == (200, b"")
    assert dict(head.headers) == {**headers, "content-length": "3"}
    saved = await file_plan(services, artifact, "a.txt", query={"download": "true"})
    assert dict(saved.headers)["content-disposition"] == 'attachment; filename="a.txt"'  # type: ignore[union-attr]


async def test_pieces_and_what_has_not_changed(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files=FILES)
    piece = await file_plan(services, artifact, "a.txt", headers={"range": "bytes=-3"})
    response = await fetch(piece)
    assert response.content == b"789"
    assert response.headers["content-range"] == "bytes 7-9/10"
    behind = await file_plan(services, artifact, "a.txt", headers={"range": "bytes=10-"})
    assert isinstance(behind, Reply)
    assert (behind.status, dict(behind.headers)["content-range"]) == (416, "bytes */10")
    etag = dict(piece.headers)["etag"]  # type: ignore[union-attr]
    known = await file_plan(services, artifact, "a.txt", headers={"if-none-match": etag, "range": "bytes=0-1"})
    assert isinstance(known, Reply)
    assert (known.status, known.body, dict(known.headers)["etag"]) == (304, b"", etag)
    other = await file_plan(services, artifact, "a.txt", headers={"if-match": '"x"'})
    assert isinstance(other, Reply)
    assert other.status == 412


async def test_folders_are_listed(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files=FILES)
    root = answer(await file_plan(services, artifact, ""))
    assert [(item["name"], item["type"]) for item in root] == [("a.txt", "file"), ("g", "file"), ("d", "directory")]
    assert answer(await plan_for(services, "artifact_files", artifact)) == root
    assert answer(await file_plan(services, artifact, "d/"))[1] == {"type": "directory", "name": "e"}
    page = answer(await file_plan(services, artifact, "", query={"limit": "1", "offset": "1"}))
    assert [item["name"] for item in page] == ["g"]
    assert answer(await file_plan(services, artifact, "", query={"offset": "3"})) == []
    for path in ("x/", "a.txt/"):
        with pytest.raises(NotFound, match="File or directory not found"):
            await file_plan(services, artifact, path)
    with pytest.raises(NotFound, match="File 'd' does not exist"):
        await file_plan(services, artifact, "d")
    for query in ({"limit": "x"}, {"stage": "maybe"}, {"version": "v9"}, {"stage": "true", "version": "v0"}):
        with pytest.raises(BadRequest):
            await file_plan(services, artifact, "", query=query)


async def test_where_the_store_is_public_clients_go_there(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files=FILES)
    plan = await file_plan(services, artifact, "a.txt", query={"use_proxy": "false", "expires_in": "60"})
    assert isinstance(plan, Reply)
    assert plan.status == 307
    async with httpx.AsyncClient() as http:
        response = await http.get(dict(plan.headers)["location"])
    assert response.content == FILES["a.txt"]
    assert response.headers["content-type"].startswith("text/plain")
    with pytest.raises(NotFound):
        await file_plan(services, artifact, "x", query={"use_proxy": "false"})
    head = await file_plan(services, artifact, "a.txt", query={"use_proxy": "false"}, method="HEAD")
    assert isinstance(head, Reply)
    assert head.status == 200


async def test_downloads_are_counted_once(services: ArtifactsService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for heads, silent ones, pieces behind the first, or what somebody has already."""
    artifact = await add_artifact(services.core, files=FILES, config={"download_weights": {"a.txt": 2}})
    counted: list[tuple[object, float]] = []
    monkeypatch.setattr(services.core.counters, "downloaded", lambda *count: counted.append(count))
    for options in (
        {},
        {"headers": {"range": "bytes=0-1"}},
        {"headers": {"range": "bytes=2-"}},
        {"headers": {"if-none-match": "*"}},
        {"method": "HEAD"},
        {"query": {"silent": "true"}},
        {"query": {"use_proxy": "false"}},
    ):
        await file_plan(services, artifact, "a.txt", **options)
    assert counted == [(artifact.id, 2.0)] * 3


async def test_a_body_is_staged_when_it_is_stored(services: ArtifactsService) -> None:
    """Readers of the draft see the old bytes until then, and readers of the version until the commit."""
    artifact = await add_artifact(services.core, files=FILES, staged=True)
    plan = await put_plan(services, artifact, "a.txt", headers={"content-type": "text/x-notes"})
    assert isinstance(plan, Store)
    assert plan.max_bytes == services.core.settings.max_file_bytes
    stage = {"version": "stage"}
    assert (await fetch(await file_plan(services, artifact, "a.txt", query=stage))).content == FILES["a.txt"]
    reply = await put(services, artifact, plan, b"new")
    assert (reply.status, json.loads(reply.body)) == (
        200, {"success": True, "message": "File uploaded successfully"},
    )  # fmt: skip
    draft = await file_plan(services, artifact, "a.txt", query=stage)
    assert dict(draft.headers)["content-type"] == "text/x-notes"  # type: ignore[union-attr]
    assert dict(draft.headers)["etag"] == dict(reply.headers)["etag"]  # type: ignore[union-attr]
    assert (await fetch(draft)).content == b"new"
    assert (await fetch(await file_plan(services, artifact, "a.txt"))).content == FILES["a.txt"]
    await commit(services.core, await services.core.access.known(artifact.name))
    assert (await fetch(await file_plan(services, artifact, "a.txt"))).content == b"new"
    assert (await put(services, artifact, plan, b"new")).status == 200, "said twice, also after the commit"


async def test_bodies_that_nobody_wants(services: ArtifactsService) -> None:
    plain = await add_artifact(services.core, files=FILES)
    with pytest.raises(BadRequest, match="Artifact must be in staging mode to upload files"):
        await put_plan(services, plain, "x")
    artifact = await add_artifact(services.core, files=FILES, staged=True)
    for path in ("../x", "a\x00b", "x/", "", "d/" * 500 + "x"):
        with pytest.raises(BadRequest, match="path"):
            await put_plan(services, artifact, path)
    for path in ("a.txt/b", "d/e"):
        with pytest.raises(Conflict):
            await put_plan(services, artifact, path)
    with pytest.raises(BadRequest, match="Download weight"):
        await put_plan(services, artifact, "x", query={"download_weight": "-1"})
    with pytest.raises(PayloadTooLarge):
        await put_plan(services, artifact, "x", headers={"content-length": str(2**60)})
    plan = await put_plan(services, artifact, "x")
    await set_draft(services.core, artifact, None)
    with pytest.raises(BadRequest, match="Artifact must be in staging mode to upload files"):
        await put(services, artifact, plan, b"too late")


async def test_who_comes_too_late_for_a_path(services: ArtifactsService) -> None:
    """While a body was on its way its path became a folder; or its object was swept."""
    artifact = await add_artifact(services.core, staged=True)
    plan = await put_plan(services, artifact, "x")
    await put(services, artifact, await put_plan(services, artifact, "x/y"), b"")
    with pytest.raises(Conflict, match="'x' is a folder"):
        await put(services, artifact, plan, b"")
    plan = await put_plan(services, artifact, "z")
    await services.core.rows.shard(artifact.name).execute("DELETE FROM blobs WHERE key LIKE '%/z'")
    with pytest.raises(Conflict, match="took too long"):
        await put(services, artifact, plan, b"")
    assert isinstance(plan, Store)
    key = plan.url.partition("/hypha-workspaces/")[2].partition("?")[0]
    shard = services.core.rows.shard(artifact.name)
    assert await shard.fetchval("SELECT true FROM dead_objects WHERE key = $1", key), "the sweep removes its bytes"


async def test_strangers_are_told_what_the_contract_says(services: ArtifactsService) -> None:
    artifact = await add_artifact(services.core, files=FILES, staged=True)
    stranger, reader = somebody(workspace="ws-other"), somebody(Permission.READ)
    for options in ({"path": "a.txt"}, {"path": ""}, {"path": "a.txt", "method": "HEAD"}):
        with pytest.raises(PermissionDenied, match=r"^Permission denied$"):
            await plan_for(services, "artifact_files", artifact, user=stranger, **options)
    for user in (stranger, reader):
        with pytest.raises(PermissionDenied, match=r"^Permission denied$"):
            await put_plan(services, artifact, "a.txt", user=user)
        for route in ("artifact_create_upload", "artifact_complete_upload"):
            with pytest.raises(PermissionDenied, match=r"^Permission denied$"):
                await plan_for(
                    services, route, artifact, user=user, query=[("path", "x"), ("part_count", "1")], body=b"{}"
                )
    await services.core.rows.shard(artifact.name).execute("DELETE FROM artifacts WHERE id = $1", artifact.id)
    with pytest.raises(NotFound, match=r"^Artifact not found$"):
        await file_plan(services, artifact, "a.txt")


async def test_tokens_for_single_files(services: ArtifactsService) -> None:
    """They open exactly what they name, whoever holds them (contract 02 FIX-23)."""
    artifact = await add_artifact(services.core, files=FILES, staged=True)
    another = await add_artifact(services.core, files=FILES, staged=True)
    odd = "d/ü %?#.html"

    def holder(*scopes: str) -> Any:
        return somebody(Permission.ADMIN, scopes=scopes)

    for target in (artifact.id, artifact.name):
        user = holder(f"get_file:{target}:{quote(odd, safe='')}")
        assert isinstance(await file_plan(services, artifact, odd, user=user), Fetch)
        assert isinstance(await file_plan(services, artifact, odd, user=user, method="HEAD"), Reply)
        for refused in (
            file_plan(services, artifact, "a.txt", user=user),
            file_plan(services, artifact, "d/", user=user),
            file_plan(services, another, odd, user=user),
            put_plan(services, artifact, odd, user=user),
            plan_for(services, "artifact_complete_upload", artifact, user=user, body=b"{}"),
        ):
            with pytest.raises(PermissionDenied):
                await refused
    everything = somebody(workspace="ws-other", scopes=[f"get_file:{artifact.name}:*"])
    assert isinstance(await file_plan(services, artifact, "a.txt", user=everything), Fetch)
    with pytest.raises(PermissionDenied):
        await file_plan(services, artifact, "", user=everything)
    writer = somebody(workspace="ws-other", scopes=[f"put_file:{artifact.id}:new.txt"])
    assert isinstance(await put_plan(services, artifact, "./new.txt", user=writer), Store)
    for path, method in (("new.txt2", "PUT"), ("new.txt", "GET")):
        with pytest.raises(PermissionDenied):
            await file_plan(services, artifact, path, method=method, user=writer)
    star = holder(f"get_file:{artifact.id}:%2A")
    with pytest.raises(PermissionDenied):
        await file_plan(services, artifact, "a.txt", user=star)
    for broken in ("get_file:", "get_file:*", f"get_file:{artifact.id}", f"get_file:{artifact.id}:", "get_file:*:*"):
        with pytest.raises(PermissionDenied):
            await file_plan(services, artifact, "a.txt", user=holder(broken))


async def test_a_put_through_our_s3_is_known_without_asking(services: ArtifactsService) -> None:
    """What the front of the store reports is what the files' routes say."""
    artifact = await add_artifact(services.core, files={"a": b"old"}, staged=True)
    plan = await put_plan(services, artifact, "a")
    assert isinstance(plan, Store)
    await put(services, artifact, plan, b"first")
    key = plan.url.partition("/hypha-workspaces/")[2].partition("?")[0]
    blobs = BlobRows(services.core)
    await blobs.writable(key)
    await blobs.stored(key, 7, "tag", "image/png")
    head = await file_plan(services, artifact, "a", method="HEAD", query={"stage": "true"})
    headers = dict(head.headers)  # type: ignore[union-attr]
    assert (headers["content-length"], headers["etag"], headers["content-type"]) == ("7", '"tag"', "image/png")
