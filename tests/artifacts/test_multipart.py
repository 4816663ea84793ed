"""Files that are uploaded in parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.main import ArtifactsService
from hypha_common.errors import BadRequest
from hypha_common.plans import Reply
from hypha_common.principal import Permission
from tests.artifacts.http_calls import plan_for, somebody
from tests.artifacts.people import Person, fresh
from tests.artifacts.rows import add_artifact
from tests.manager.rig import Gateway

PART = 5 * 2**20
BODY = [b"a" * PART, b"b" * PART, b"end"]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


@pytest.fixture
async def me(gateway: Gateway) -> Person:
    person = await fresh(gateway)
    await person.artifacts.create(alias="a", manifest={"name": "A"}, stage=True)
    return person


async def send(http: httpx.AsyncClient, begun: dict[str, Any], body: list[bytes] = BODY) -> list[dict[str, Any]]:
    """Upload the parts and return what the client says of them."""
    parts = []
    for part, data in zip(begun["parts"], body, strict=True):
        response = await http.put(part["url"], content=data)
        parts.append({"part_number": part["part_number"], "etag": response.headers["etag"]})
    return parts


async def test_parts_become_a_file(me: Person, http: httpx.AsyncClient) -> None:
    """In any order, etags with or without quotes; readers of the draft see it when it is complete."""
    art = me.artifacts
    begun = await art.put_file_start_multipart("a", "d/big.png", 3, download_weight=2, use_proxy=False)
    assert [part["part_number"] for part in begun["parts"]] == [1, 2, 3]
    assert (await art.read("a", stage=True)).staging == [{"_intent": "new_version"}]
    parts = await send(http, begun)
    parts[0]["etag"] = parts[0]["etag"].strip('"')
    done = await art.put_file_complete_multipart("a", begun["upload_id"], parts[::-1])
    assert done == {"success": True, "message": "File uploaded successfully"}
    assert (await art.read("a", stage=True)).staging[0] == {"path": "d/big.png", "download_weight": 2}
    (item,) = await art.list_files("a", "d", stage=True)
    assert (item["name"], item["size"], item["download_weight"]) == ("big.png", 2 * PART + 3, 2)
    await art.commit("a")
    response = await http.get(await art.get_file("a", "d/big.png", use_proxy=False))
    assert response.content == b"".join(BODY)
    assert response.headers["content-type"] == "image/png"
    assert (await art.read("a")).config["download_weights"] == {"d/big.png": 2}
    with pytest.raises(RemoteException, match="ValueError: Upload session expired or not found"):
        await art.put_file_complete_multipart("a", begun["upload_id"], parts)


async def test_an_upload_belongs_to_its_artifact(
    me: Person, gateway: Gateway, services: ArtifactsService, http: httpx.AsyncClient
) -> None:
    """Contract 02 FIX-10: also somebody who may write both artifacts cannot move an upload; and it expires."""
    art = me.artifacts
    await art.create(alias="b", manifest={"name": "B"}, stage=True)
    begun = await art.put_file_start_multipart("a", "x", 1, use_proxy=False, expires_in=600)
    parts = await send(http, begun, [b"x"])
    stranger = await fresh(gateway)
    await stranger.artifacts.create(alias="a", manifest={"name": "A"}, stage=True)
    for person, alias, upload in [
        (me, "b", begun["upload_id"]), (stranger, "a", begun["upload_id"]), (me, "a", begun["upload_id"] + "x"),
        (me, "a", ""),
    ]:  # fmt: skip
        with pytest.raises(RemoteException, match="ValueError: Upload session expired or not found"):
            await person.artifacts.put_file_complete_multipart(alias, upload, parts)
    with pytest.raises(RemoteException, match="PermissionError"):
        await stranger.artifacts.put_file_complete_multipart(f"{me.workspace}/a", begun["upload_id"], parts)
    shard = services.core.database.for_workspace(me.workspace)
    left = await shard.fetchval("SELECT extract(epoch FROM expires_at - now())::float8 FROM artifact_uploads "
                                "WHERE id = $1", begun["upload_id"])  # fmt: skip
    assert 600 < left <= 610
    await shard.execute("UPDATE artifact_uploads SET expires_at = now() WHERE id = $1", begun["upload_id"])
    with pytest.raises(RemoteException, match="ValueError: Upload session expired or not found"):
        await art.put_file_complete_multipart("a", begun["upload_id"], parts)


async def test_what_makes_no_sense(me: Person, http: httpx.AsyncClient) -> None:
    art = me.artifacts
    for call, text in [
        (art.put_file_start_multipart("a", "x", 0), "ValueError: Part count must be greater than 0"),
        (art.put_file_start_multipart("a", "x", -1), "ValueError: Part count must be greater than 0"),
        (art.put_file_start_multipart("a", "x", 10_001), r"ValueError: The maximum number of parts is 10,000\."),
        (art.put_file_start_multipart("a", "x", "many"), "part_count must be a whole number"),
        (art.put_file_start_multipart("a", "x", 1, download_weight=-1), "must be non-negative: -1"),
        (art.put_file_start_multipart("a", "x", 1, expires_in="soon"), "expires_in"),
        (art.put_file_start_multipart("a", "../x", 1), "Illegal file path"),
    ]:
        with pytest.raises(RemoteException, match=text):
            await call
    begun = await art.put_file_start_multipart("a", "x", "2", use_proxy="false")
    tag = {"etag": "0" * 32}
    for parts, text in [
        ([], "Parts list cannot be empty"),
        ([{"part_number": 1}], "Each part must be"),
        ([{"part_number": 3, **tag}], "part_number must be a whole number between 1 and 2"),
        ([{"part_number": 1, **tag}, {"part_number": "1", **tag}], "Part 1 is given twice"),
        ([{"part_number": 1, **tag}], "Failed to complete multipart upload"),
    ]:
        with pytest.raises(RemoteException, match=text):
            await art.put_file_complete_multipart("a", begun["upload_id"], parts)


async def test_a_draft_that_is_gone_gets_no_file(me: Person, http: httpx.AsyncClient) -> None:
    art = me.artifacts
    begun = await art.put_file_start_multipart("a", "x", 1, use_proxy=False)
    parts = await send(http, begun, [b"x"])
    await art.write_file("a", "y", "")
    await art.commit("a")
    with pytest.raises(RemoteException, match=r"Upload session expired or not found|must be in staging mode"):
        await art.put_file_complete_multipart("a", begun["upload_id"], parts)
    assert [item["name"] for item in await art.list_files("a")] == ["y"]


async def test_who_was_stopped_in_between_completes_again(
    me: Person, services: ArtifactsService, http: httpx.AsyncClient
) -> None:
    """The store has joined the parts, and nobody wrote that down."""
    art = me.artifacts
    begun = await art.put_file_start_multipart("a", "x", 1, use_proxy=False)
    parts = await send(http, begun, [b"bytes"])
    shard = services.core.database.for_workspace(me.workspace)
    key, upload = await shard.fetchrow(
        "SELECT b.key, u.store_upload_id FROM artifact_uploads u JOIN blobs b ON b.id = u.blob_id WHERE u.id = $1",
        begun["upload_id"],
    )
    await services.core.store.complete_upload(key, upload, [(1, parts[0]["etag"])])
    await art.put_file_complete_multipart("a", begun["upload_id"], parts)
    assert (await art.read_file("a", "x", stage=True))["content"] == "bytes"


async def test_many_parts_at_once(me: Person, http: httpx.AsyncClient) -> None:
    """Two uploads of one path: whoever completes last has it; ten thousand addresses are given quickly enough."""
    art = me.artifacts
    begun = await asyncio.gather(*(art.put_file_start_multipart("a", "x", 1, use_proxy=False) for _ in range(2)))
    for n in (1, 0):
        await art.put_file_complete_multipart("a", begun[n]["upload_id"], await send(http, begun[n], [b"%d" % n]))
    assert (await art.read_file("a", "x", stage=True))["content"] == "0"
    many = await art.put_file_start_multipart("a", "y", 10_000)
    assert len({part["url"] for part in many["parts"]}) == 10_000


async def test_over_http(services: ArtifactsService, http: httpx.AsyncClient) -> None:
    artifact = await add_artifact(services.core, staged=True)
    writer = somebody(Permission.READ_WRITE)

    async def ask(route: str, **options: Any) -> tuple[int, Any]:
        plan = await plan_for(services, f"artifact_{route}_upload", artifact, user=writer, method="POST", **options)
        assert isinstance(plan, Reply)
        return plan.status, json.loads(plan.body)

    for count in ("0", "-1", "10001", "x", ""):
        assert (await ask("create", query=[("path", "x"), ("part_count", count)]))[0] == 422
    with pytest.raises(BadRequest, match="path"):
        await ask("create", query=[("part_count", "1")])
    query = {"path": "d/x y", "part_count": "1", "use_proxy": "false", "download_weight": "0.5"}
    status, begun = await ask("create", query=list(query.items()))
    assert status == 200
    parts = await send(http, begun, [b"body"])
    for body in (b"", b"[]", b"{"):
        with pytest.raises(BadRequest, match="The body must be JSON"):
            await ask("complete", body=body)
    with pytest.raises(BadRequest, match="Upload session expired or not found"):
        await ask("complete", body=json.dumps({"upload_id": "x", "parts": parts}).encode())
    body = json.dumps({"upload_id": begun["upload_id"], "parts": parts}).encode()
    assert await ask("complete", body=body) == (200, {"success": True, "message": "File uploaded successfully"})
    plain = await add_artifact(services.core)
    with pytest.raises(BadRequest, match="Artifact must be in staging mode to upload files"):
        await plan_for(services, "artifact_create_upload", plain, user=writer, query=list(query.items()))
