"""`/{workspace}/files`: who may do what there, and what is answered."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from hypha_artifacts.main import ArtifactsService
from hypha_common.errors import BadRequest, Conflict, HyphaError, NotFound, PermissionDenied
from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal, root_principal
from tests.artifacts.http_caller import Answer, HttpCaller, S3Caller
from tests.artifacts.shared import alice, gateway, http, services, workspace
from tests.manager.rig import Client, child, user

__all__ = ["alice", "gateway", "http", "services", "workspace"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = Principal(id="anonymouz-http", is_anonymous=True)


class Files:
    """Requests of somebody about files of a workspace."""

    def __init__(self, http: HttpCaller, principal: Principal, workspace: str) -> None:
        self._http = http
        self._principal = principal
        self._workspace = workspace

    async def __call__(self, method: str, path: str, body: bytes = b"", **options: Any) -> Answer:
        route = options.pop("route", "workspace_files")
        return await self._http.call(
            route, method, self._principal, body, workspace=self._workspace, path=path, **options
        )


def writer(workspace: str) -> Principal:
    return child("alice", workspace, Permission.READ_WRITE)


@pytest.fixture
def files(http: HttpCaller, workspace: str) -> Files:
    return Files(http, writer(workspace), workspace)


async def test_files(files: Files, workspace: str) -> None:
    put = await files("PUT", "a b/ü.json", b"{}")
    assert (put.status, put.json()) == (200, {"success": True, "message": "File uploaded successfully"})
    assert put.headers["etag"] == f'"{hashlib.md5(b"{}").hexdigest()}"'
    got = await files("GET", "a b/ü.json")
    assert (got.body, got.headers["content-type"]) == (b"{}", "application/json; charset=utf-8")
    assert (await files("HEAD", "a b/ü.json")).headers["content-length"] == "2"
    assert (await files("GET", "a b/ü.json", headers={"if-none-match": put.headers["etag"]})).status == 304
    await files("PUT", "n", b"0123456789", headers={"content-type": "application/x-n"})
    got = await files("GET", "n", headers={"range": "bytes=-3"})
    assert (got.body, got.headers["content-type"]) == (b"789", "application/x-n")
    got = await files("GET", "n", headers={"range": "bytes=-3", "if-range": '"other"'})
    assert got.body == b"0123456789"
    for method in ("GET", "HEAD"):
        with pytest.raises(NotFound):
            await files(method, "nowhere")


async def test_folders(files: Files) -> None:
    root = await files("GET", "")
    assert root.json() == {"success": True, "type": "directory", "name": "", "children": []}
    for path in ("d/one", "d/two", "d/e/f"):
        await files("PUT", path, b"x")
    listed = (await files("GET", "d/")).json()
    assert (listed["type"], listed["name"]) == ("directory", "d")
    assert [(child["type"], child["name"]) for child in listed["children"]] == [
        ("file", "one"), ("file", "two"), ("directory", "e")
    ]  # fmt: skip
    assert (await files("GET", "d")).json() == listed
    assert len((await files("GET", "d/", query={"max_length": "1"})).json()["children"]) == 1
    with pytest.raises(NotFound, match="Directory does not exists: nowhere/"):
        await files("GET", "nowhere/")
    with pytest.raises(BadRequest, match="max_length"):
        await files("GET", "d/", query={"max_length": "many"})


async def test_delete(files: Files) -> None:
    for path in ("d/one", "d/e/f", "x"):
        await files("PUT", path, b"x")
    assert (await files("DELETE", "x")).json()["success"] is True
    assert (await files("DELETE", "nowhere")).json()["success"] is True
    assert (await files("DELETE", "d/")).json()["success"] is True
    assert (await files("GET", "")).json()["children"] == []
    await files("PUT", "x", b"x")
    assert (await files("DELETE", "")).status == 200
    assert (await files("GET", "")).json()["children"] == []


async def test_who_may_what(http: HttpCaller, workspace: str, alice: Client) -> None:
    """Reading is enough to read; strangers and nobody get nothing, of workspaces that are not there neither."""
    await Files(http, writer(workspace), workspace)("PUT", "x", b"x")
    reader = Files(http, child("alice", workspace, Permission.READ), workspace)
    assert (await reader("GET", "x")).body == b"x"
    strangers = [Files(http, principal, workspace) for principal in (user("mallory"), NOBODY)]
    for files, methods in (
        (reader, ("PUT", "DELETE")),
        *((one, ("GET", "HEAD", "PUT", "DELETE")) for one in strangers),
    ):
        for method in methods:
            with pytest.raises(PermissionDenied, match=rf"^Permission denied: {workspace}$"):
                await files(method, "x", b"y")
        for route, body in (("workspace_create_upload", b""), ("workspace_complete_upload", b"{}")):
            with pytest.raises(PermissionDenied):
                await files("POST", "", body, route=route, query={"path": "x", "part_count": "1"})
    for method in ("GET", "PUT", "DELETE"):
        with pytest.raises(NotFound, match=r"^Workspace does not exists: ws-nowhere-to-be$"):
            await Files(http, root_principal(), "ws-nowhere-to-be")(method, "x", b"x")
    read_only = f"ws-files-{new_id(8).lower()}"
    await alice.manager.create_workspace({"id": read_only, "name": read_only, "persistent": True, "read_only": True})
    files = Files(http, writer(read_only), read_only)
    assert (await files("GET", "")).status == 200
    with pytest.raises(PermissionDenied, match=rf"^Permission denied: workspace \({read_only}\) is read-only$"):
        await files("PUT", "x", b"x")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a\x00b", "a\nb", "x" * 300, "/".join(["x" * 200] * 5)])
async def test_paths_that_are_refused(files: Files, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        with pytest.raises(BadRequest):
            await files(method, path, b"x")


async def test_a_file_is_no_folder(files: Files) -> None:
    await files("PUT", "a/b", b"x")
    with pytest.raises(Conflict, match="`a` is a folder"):
        await files("PUT", "a", b"x")
    with pytest.raises(Conflict, match="`a/b` is a file, not a folder"):
        await files("PUT", "a/b/c", b"x")


async def test_multipart(files: Files, http: HttpCaller, services: ArtifactsService, alice: Client) -> None:
    query = {"path": "large.bin", "part_count": "2", "expires_in": "60"}
    begun = (await files("POST", "", route="workspace_create_upload", query=query)).json()
    parts = []
    for part, data in zip(begun["parts"], (b"a" * 5 * 2**20, b"b"), strict=True):
        answer = await S3Caller.send(http, "PUT", part["url"], data)
        parts.append({"part_number": part["part_number"], "etag": answer.headers["etag"]})
    body = json.dumps({"upload_id": begun["upload_id"], "parts": parts}).encode()
    elsewhere = Files(http, user("alice"), "ws-user-alice")
    with pytest.raises(BadRequest, match="not found or expired"):
        await elsewhere("POST", "", body, route="workspace_complete_upload")
    done = await files("POST", "", body, route="workspace_complete_upload")
    assert done.json() == {"success": True, "message": "File uploaded successfully"}
    head = await files("HEAD", "large.bin")
    assert (head.headers["content-length"], head.headers["etag"]) == (str(5 * 2**20 + 1), done.headers["etag"])
    again = await http.call("workspace_files", "GET", user("alice"), workspace="ws-user-alice", path="")
    assert again.json()["children"] == []
    for bad in (b"", b"[]", b"{}", json.dumps({"upload_id": begun["upload_id"], "parts": [{}]}).encode(), body):
        with pytest.raises(BadRequest):
            await files("POST", "", bad, route="workspace_complete_upload")
    for change in ({"part_count": "0"}, {"part_count": "many"}, {"path": ""}, {"path": "../x"}, {"expires_in": "-1"}):
        with pytest.raises(HyphaError):
            await files("POST", "", route="workspace_create_upload", query={**query, **change})
