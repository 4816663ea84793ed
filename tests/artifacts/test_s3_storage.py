"""The service `public/s3-storage`: files of the caller's workspace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from hypha_rpc.utils import ObjectProxy

from hypha_artifacts.main import ArtifactsService
from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal, Scope, root_principal
from tests.artifacts.http_caller import HttpCaller, S3Caller
from tests.artifacts.shared import alice, gateway, http, services, workspace
from tests.manager.rig import Client, Gateway, child, user

__all__ = ["alice", "gateway", "http", "services", "workspace"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def storage_of(gateway: Gateway, principal: Principal, workspace: str) -> Any:
    client = await gateway.connect(f"client-{new_id(6)}", principal, workspace)
    return await client.manager.get_service("public/s3-storage")


@pytest_asyncio.fixture(loop_scope="module")
async def storage(gateway: Gateway, workspace: str) -> Any:
    """The service as alice has it in a workspace of hers."""
    return await storage_of(gateway, user("alice"), workspace)


@pytest_asyncio.fixture(loop_scope="module")
async def reader(gateway: Gateway, workspace: str) -> Any:
    """The service as somebody has it whom alice lets read."""
    return await storage_of(gateway, child("alice", workspace, Permission.READ), workspace)


async def put(http: HttpCaller, url: str, body: bytes) -> str:
    answer = await S3Caller.send(http, "PUT", url, body)
    assert answer.status == 200
    return answer.headers["etag"]


async def get(http: HttpCaller, url: str) -> bytes | int:
    answer = await S3Caller.send(http, "GET", url)
    return answer.body if answer.status == 200 else answer.status


async def test_files(storage: Any, http: HttpCaller, workspace: str) -> None:
    """Put, list, get, remove: one by one and several at once."""
    assert await storage.list_files() == []
    url = await storage.put_file("a b/ü.txt")
    assert url.startswith("http://hub.example/s3/hypha-workspaces/")
    await put(http, url, b"hello")
    urls = await storage.put_file(["one.txt", "two.txt"])
    for number, path in enumerate(["one.txt", "two.txt"]):
        await put(http, urls[path], b"x" * number)
    listed = await storage.list_files()
    assert [(item["type"], item["name"], item.get("size")) for item in listed] == [
        ("file", "one.txt", 0), ("file", "two.txt", 1), ("directory", "a b", None)
    ]  # fmt: skip
    assert isinstance(listed[0]["last_modified"], float)
    assert await storage.list_files(max_length=1, offset=1) == [listed[1]]
    for path in ("a b", "a b/", "./a b", "x/../a b"):
        assert [item["name"] for item in await storage.list_files(path)] == ["ü.txt"]
    assert await storage.list_files("nowhere") == []
    assert await get(http, await storage.get_file("a b/ü.txt")) == b"hello"
    urls = await storage.get_file(["one.txt", "nowhere"])
    assert await get(http, urls["one.txt"]) == b""
    assert await get(http, urls["nowhere"]) == 404
    assert await storage.remove_file("one.txt") == {"success": True, "message": "File deleted successfully: one.txt"}
    assert await storage.remove_file("a b") == {"success": True, "message": "Directory deleted successfully: a b"}
    for path in ("one.txt", "a b/", "nowhere"):
        assert await storage.remove_file(path) == {"success": False, "message": f"Path does not exist: {path}"}
    assert await storage.delete_file("two.txt") == {"success": True}
    assert await storage.list_files() == []


async def test_deprecated_methods(storage: Any, http: HttpCaller) -> None:
    await put(http, await storage.put_file("d/e/f"), b"x")
    with pytest.raises(Exception, match="AssertionError: Path should not end with a slash for file"):
        await storage.delete_file("d/")
    with pytest.raises(Exception, match="AssertionError: Path should end with a slash for directory"):
        await storage.delete_directory("d")
    assert await storage.delete_directory("d/") == {"success": True}
    assert await storage.list_files() == []


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a/../../../etc/x", ".."])
async def test_paths_that_lead_out(storage: Any, path: str) -> None:
    message = "UnsafePathError: Illegal file path: `.*`, you can only operate within the work directory"
    for call in (
        storage.put_file, storage.get_file, storage.list_files, storage.remove_file, storage.generate_presigned_url
    ):  # fmt: skip
        with pytest.raises(Exception, match=message):
            await call(path)
    with pytest.raises(Exception, match=message):
        await storage.put_file_start_multipart(path, 1)


async def test_the_root_is_for_administrators(gateway: Gateway, storage: Any, services: ArtifactsService) -> None:
    with pytest.raises(Exception, match=r"Permission denied: only admin can access the root folder\."):
        await storage.list_files("/")
    with pytest.raises(Exception, match="only admin can access the root folder"):
        await storage.get_file("/artifacts/x")
    root = await storage_of(gateway, root_principal(), "ws-user-root")
    await services.core.store.write("ws-root-test/x", b"x", content_type="text/plain")
    assert {"type": "directory", "name": "ws-root-test"} in await root.list_files("/")
    assert await root.remove_file("/ws-root-test") == {
        "success": True, "message": "Directory deleted successfully: /ws-root-test"
    }  # fmt: skip
    for path in ("/artifacts/ws-a/x", "/x", "/"):
        with pytest.raises(Exception, match=r"PermissionError|Invalid file path"):
            await root.put_file(path)
    with pytest.raises(Exception, match="Files of artifacts"):
        await root.remove_file("/artifacts/ws-a")


async def test_readers_cannot_write(reader: Any, storage: Any, http: HttpCaller, workspace: str) -> None:
    await put(http, await storage.put_file("x"), b"x")
    assert len(await reader.list_files()) == 1
    assert await get(http, await reader.get_file("x")) == b"x"
    assert await get(http, await reader.generate_presigned_url("x")) == b"x"
    message = f"AssertionError: Permission denied: {workspace}"
    for call in (
        reader.put_file("x"),
        reader.put_file_start_multipart("x", 1),
        reader.put_file_complete_multipart("x", [{"part_number": 1, "etag": "x"}]),
        reader.remove_file("x"),
        reader.delete_file("x"),
        reader.delete_directory("x/"),
        reader.generate_presigned_url("x", client_method="put_object"),
        reader.generate_credential(),
    ):
        with pytest.raises(Exception, match=message):
            await call
    for method in ("delete_object", "list_objects", ""):
        with pytest.raises(Exception, match="client_method must be get_object or put_object"):
            await storage.generate_presigned_url("x", client_method=method)


async def test_strangers_see_nothing(gateway: Gateway, storage: Any, workspace: str) -> None:
    """Their paths are in their own workspace, and do not lead out of it."""
    stranger = await storage_of(gateway, user("mallory"), "ws-user-mallory")
    await stranger.put_file("x")
    with pytest.raises(Exception, match="UnsafePathError"):
        await stranger.get_file(f"../{workspace}/x")


async def test_read_only_workspaces(gateway: Gateway, alice: Client) -> None:
    name = f"ws-files-{new_id(8).lower()}"
    await alice.manager.create_workspace({"id": name, "name": name, "persistent": True, "read_only": True})
    storage = await storage_of(gateway, user("alice"), name)
    assert await storage.list_files() == []
    for call in (
        storage.put_file("x"),
        storage.remove_file("x"),
        storage.generate_presigned_url("x", client_method="put_object"),
        storage.generate_credential(),
    ):
        with pytest.raises(Exception, match="AssertionError: Permission denied: workspace is read-only"):
            await call


async def test_anonymous_workspaces_are_read_only(
    gateway: Gateway, services: ArtifactsService, monkeypatch: pytest.MonkeyPatch, http: HttpCaller
) -> None:
    name = f"anonymouz-{new_id(8).lower()}"
    own = f"ws-user-{name}"
    nobody = Principal(id=name, is_anonymous=True, scope=Scope({own: Permission.ADMIN}))
    storage = await storage_of(gateway, nobody, own)
    with pytest.raises(Exception, match="Permission denied: workspace is read-only"):
        await storage.put_file("x")
    rights = services.workspace_files._storage._rights
    monkeypatch.setattr(rights, "_settings", services.core.settings.replace(enable_s3_for_anonymous_users=True))
    await put(http, await storage.put_file("x"), b"x")


async def test_multipart(storage: Any, http: HttpCaller, gateway: Gateway) -> None:
    begun = await storage.put_file_start_multipart("large.bin", 2)
    assert [part["part_number"] for part in begun["parts"]] == [1, 2]
    data = [b"a" * 5 * 2**20, b"b"]
    parts = [
        {"part_number": part["part_number"], "etag": await put(http, part["url"], piece)}
        for part, piece in zip(begun["parts"], data, strict=True)
    ]
    stranger = await storage_of(gateway, user("mallory"), "ws-user-mallory")
    unknown = f"ValueError: Upload ID {begun['upload_id']} not found or expired"
    with pytest.raises(Exception, match=unknown):
        await stranger.put_file_complete_multipart(begun["upload_id"], parts)
    with pytest.raises(Exception, match="Parts list cannot be empty"):
        await storage.put_file_complete_multipart(begun["upload_id"], [])
    done = await storage.put_file_complete_multipart(begun["upload_id"], list(reversed(parts)))
    assert (done["success"], done["message"]) == (True, "File uploaded successfully")
    assert done["etag"]
    assert done["location"].endswith("/large.bin")
    assert await get(http, await storage.get_file("large.bin")) == b"".join(data)
    with pytest.raises(Exception, match=unknown):
        await storage.put_file_complete_multipart(begun["upload_id"], parts)
    for count in (0, -1, 10_001, "many", None, True):
        with pytest.raises(Exception, match="part_count must be between 1 and 10000"):
            await storage.put_file_start_multipart("x", count)


async def test_files_that_end(storage: Any, http: HttpCaller, services: ArtifactsService, workspace: str) -> None:
    """Those with a ttl go after it; one that is written without goes on, whatever was there before."""
    urls = await storage.put_file(["ends", "stays", "renewed"], ttl=[0.01, 0, 0.01])
    for url in urls.values():
        await put(http, url, b"x")
    await put(http, await storage.put_file("renewed"), b"y")
    begun = await storage.put_file_start_multipart("joined", 1, ttl=0.01)
    part = {"part_number": 1, "etag": await put(http, begun["parts"][0]["url"], b"x")}
    await storage.put_file_complete_multipart(begun["upload_id"], [part])
    await asyncio.sleep(0.05)
    await services.workspace_files.expiry.sweep(services.core.database.for_workspace(workspace))
    assert [item["name"] for item in await storage.list_files()] == ["renewed", "stays"]
    for ttl in (-1, "soon", [1, 2], float("nan")):
        with pytest.raises(Exception, match="ttl"):
            await storage.put_file("x", ttl=ttl)


async def test_uploads_that_nobody_completed(
    storage: Any, services: ArtifactsService, workspace: str, http: HttpCaller
) -> None:
    begun = await storage.put_file_start_multipart("x", 1)
    shard = services.core.database.for_workspace(workspace)
    late = "UPDATE workspace_uploads SET expires_at = now() - interval '2 minutes' WHERE id = $1"
    await shard.execute(late, begun["upload_id"])
    await services.workspace_files.expiry.sweep(shard)
    assert await shard.fetchval("SELECT count(*) FROM workspace_uploads WHERE id = $1", begun["upload_id"]) == 0
    answer = await S3Caller.send(http, "PUT", begun["parts"][0]["url"], b"x")
    assert answer.status == 404


async def test_credentials(storage: Any, http: HttpCaller, workspace: str, services: ArtifactsService) -> None:
    made: ObjectProxy = await storage.generate_credential()
    assert made["endpoint_url"] == "http://hub.example/s3"
    assert (made["bucket"], made["prefix"], made["region_name"]) == ("hypha-workspaces", f"{workspace}/", "EU")
    s3 = S3Caller(http, made["access_key_id"], made["secret_access_key"])
    assert (await s3("PUT", f"{made['bucket']}/{made['prefix']}x", b"x")).status == 200
    assert await get(http, await storage.get_file("x")) == b"x"
    assert (await s3("PUT", f"{made['bucket']}/ws-other/x", b"x")).code == "AccessDenied"
    rows = await services.core.database.for_workspace(workspace).fetch(
        "SELECT * FROM s3_credentials WHERE access_key_id = $1", made["access_key_id"]
    )
    assert made["secret_access_key"] not in str([dict(row) for row in rows])


async def test_where_addresses_lead(storage: Any, services: ArtifactsService) -> None:
    """To this server, its address on this machine, another one, or the store itself; text means what it says."""
    local = services.core.settings.local_base_url
    store = services.core.settings.endpoint_url
    for options, start in (
        ({}, "http://hub.example/s3/"),
        ({"use_local_url": True}, f"{local}/s3/"),
        ({"use_local_url": "false"}, "http://hub.example/s3/"),
        ({"use_local_url": "http://h:1"}, "http://h:1/s3/"),
        ({"use_proxy": False}, f"{store}/hypha-workspaces/"),
        ({"use_proxy": "false"}, f"{store}/hypha-workspaces/"),
    ):
        assert (await storage.put_file("x", **options)).startswith(start)
        assert (await storage.get_file("x", **options)).startswith(start)
    for bad in ({"expires_in": 0}, {"expires_in": "soon"}, {"use_proxy": "maybe"}):
        with pytest.raises(Exception, match="ValueError"):
            await storage.put_file("x", **bad)
    for call in (storage.put_file, storage.get_file):
        with pytest.raises(Exception, match="file_path list must contain at least one path"):
            await call([])
