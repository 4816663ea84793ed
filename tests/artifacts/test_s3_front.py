"""Our own S3 API: what keys of a workspace may do, what addresses of ours may do, and what neither may."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace
from urllib.parse import quote

import pytest
import pytest_asyncio

from hypha_artifacts.blobs.layout import blob_key
from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.reference import new_uuid
from hypha_artifacts.s3.blocked import BlockedUsers
from hypha_artifacts.s3.credentials import CredentialRows, workspace_secret
from hypha_common.principal import Permission
from tests.artifacts.http_caller import Answer, HttpCaller, S3Caller
from tests.artifacts.shared import alice, gateway, http, services, workspace
from tests.fixtures.object_store import ObjectStore
from tests.manager.rig import Gateway, user

__all__ = ["alice", "gateway", "http", "services", "workspace"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUCKET = "hypha-workspaces"


@pytest_asyncio.fixture(loop_scope="module")
async def s3(services: ArtifactsService, http: HttpCaller, workspace: str) -> S3Caller:
    """A client with a key for the workspace."""
    return await caller(services, http, workspace)


async def caller(
    services: ArtifactsService,
    http: HttpCaller,
    workspace: str,
    *,
    read_only: bool = False,
    expires_at: float | None = None,
) -> S3Caller:
    rows = CredentialRows(services.core.database)
    made = await rows.add(workspace, "alice", read_only=read_only, expires_at=expires_at)
    return S3Caller(http, made.access_key_id, workspace_secret(services.core.settings, made.access_key_id))


def denied(answer: Answer, code: str = "AccessDenied", status: int = 403) -> bool:
    return (answer.status, answer.code) == (status, code)


async def test_objects(s3: S3Caller, workspace: str) -> None:
    """Put, head, get with ranges and conditions, list, copy, delete: with an odd name."""
    key = f"{BUCKET}/{workspace}/täst dir/a+b&c%20d=.bin"
    headers = {"content-type": "application/x-odd", "x-amz-meta-title": "one two", "cache-control": "no-store"}
    put = await s3("PUT", key, b"0123456789", headers=headers)
    assert put.status == 200
    assert put.headers["etag"] == f'"{hashlib.md5(b"0123456789").hexdigest()}"'
    got = await s3("GET", key)
    assert got.body == b"0123456789"
    for name, value in headers.items():
        assert got.headers[name] == value
    head = await s3("HEAD", key)
    assert (head.status, head.headers["content-length"]) == (200, "10")
    assert (await s3("GET", key, headers={"range": "bytes=2-4"})).body == b"234"
    assert (await s3("GET", key, headers={"range": "bytes=50-"})).status == 416
    etag = put.headers["etag"]
    assert (await s3("GET", key, headers={"if-none-match": etag})).status == 304
    assert denied(await s3("GET", key, headers={"if-match": '"x"'}), "PreconditionFailed", 412)
    assert denied(await s3("PUT", key, b"x", headers={"if-none-match": "*"}), "PreconditionFailed", 412)
    override = {"response-content-disposition": "attachment; filename=x"}
    got = await s3("GET", key, query=override, in_query=True)
    assert got.headers["content-disposition"] == "attachment; filename=x"
    target = f"{BUCKET}/{workspace}/copy.txt"
    copied = await s3("PUT", target, headers={"x-amz-copy-source": quote(f"/{key}")})
    assert copied.texts("ETag") == [etag]
    got = await s3("GET", target)
    assert (got.body, got.headers["content-type"]) == (b"0123456789", "application/x-odd")
    for path in (key, target, target):
        assert (await s3("DELETE", path)).status == 204
    assert denied(await s3("GET", key), "NoSuchKey", 404)
    assert (await s3("HEAD", key)).status == 404


async def test_metadata_can_be_replaced(s3: S3Caller, workspace: str) -> None:
    key = f"{BUCKET}/{workspace}/one.txt"
    await s3("PUT", key, b"1", headers={"x-amz-meta-a": "1"})
    replaced = {"x-amz-copy-source": f"/{key}", "x-amz-metadata-directive": "REPLACE", "x-amz-meta-b": "2"}
    assert (await s3("PUT", key, headers=replaced)).status == 200
    head = await s3("HEAD", key)
    assert (head.headers.get("x-amz-meta-a"), head.headers["x-amz-meta-b"]) == (None, "2")
    assert denied(await s3("PUT", key, headers={"x-amz-copy-source": f"/{key}"}), "InvalidRequest", 400)
    await s3("PUT", key, b"2")
    assert "x-amz-meta-b" not in (await s3("HEAD", key)).headers


async def test_listing(s3: S3Caller, workspace: str) -> None:
    """Both versions, in pages, by folder; names in the encoding that was asked for."""
    for n in range(5):
        await s3("PUT", f"{BUCKET}/{workspace}/d{n}/f ü", b"x")
    await s3("PUT", f"{BUCKET}/{workspace}/z", b"x")
    whole = {"list-type": "2", "prefix": f"{workspace}/"}
    listed = await s3("GET", BUCKET, query=whole)
    assert listed.texts("Key") == [*(f"{workspace}/d{n}/f ü" for n in range(5)), f"{workspace}/z"]
    encoded = await s3("GET", BUCKET, query={**whole, "encoding-type": "url"})
    assert encoded.texts("Key")[0] == f"{workspace}/d0/f%20%C3%BC"
    for version, goes_on, where in (("2", "continuation-token", "NextContinuationToken"), ("", "marker", "NextMarker")):
        found, query = [], {"prefix": f"{workspace}/", "delimiter": "/", "max-keys": "2"}
        query |= {"list-type": version} if version else {}
        while True:
            page = await s3("GET", BUCKET, query=query)
            entries = [text for text in page.texts("Prefix") if text != f"{workspace}/"] + page.texts("Key")
            assert len(entries) <= 2
            found += entries
            if page.texts("IsTruncated") == ["false"]:
                break
            query[goes_on] = page.texts(where)[0]
        assert found == [*(f"{workspace}/d{n}/" for n in range(5)), f"{workspace}/z"]
    after = await s3("GET", BUCKET, query={**whole, "start-after": f"{workspace}/d3/f ü"})
    assert after.texts("Key") == [f"{workspace}/d4/f ü", f"{workspace}/z"]
    assert (await s3("GET", BUCKET, query={**whole, "max-keys": "0"})).texts("Key") == []


async def test_bucket(s3: S3Caller, workspace: str) -> None:
    assert (await s3("HEAD", BUCKET)).status == 200
    assert (await s3("GET", BUCKET, query={"location": ""})).status == 200
    assert denied(await s3("PUT", BUCKET), "BucketAlreadyOwnedByYou", 409)
    assert denied(await s3("DELETE", BUCKET))
    assert denied(await s3("GET", BUCKET, query={"policy": ""}), "NotImplemented", 501)


@pytest.mark.parametrize("where", ["ws-other/x", "artifacts/ws-a/x", "x", "{}-more/x", "{}"])
async def test_nothing_outside_the_workspace(s3: S3Caller, workspace: str, where: str) -> None:
    outside = where.format(workspace)
    inside = f"{BUCKET}/{workspace}/in"
    await s3("PUT", inside, b"x")
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = await s3(method, f"{BUCKET}/{outside}", b"x" if method == "PUT" else b"")
        assert answer.status == 403
    assert denied(await s3("POST", f"{BUCKET}/{outside}", query={"uploads": ""}))
    assert denied(await s3("PUT", f"{BUCKET}/{outside}", headers={"x-amz-copy-source": f"/{inside}"}))
    assert denied(await s3("PUT", inside, headers={"x-amz-copy-source": f"/{BUCKET}/{outside}"}))
    assert denied(await s3("GET", BUCKET, query={"prefix": outside, "list-type": "2"}))
    body = f"<Delete><Object><Key>{outside}</Key></Object><Object><Key>{workspace}/in</Key></Object></Delete>".encode()
    deleted = await s3("POST", BUCKET, body, query={"delete": ""})
    assert (deleted.status, deleted.texts("Code")) == (200, ["AccessDenied"])
    assert (await s3("GET", inside)).status == 404


async def test_the_root_is_not_listed(s3: S3Caller) -> None:
    for query in ({}, {"list-type": "2"}, {"prefix": ""}, {"uploads": ""}, {"uploads": "", "prefix": "ws"}):
        assert denied(await s3("GET", BUCKET, query=query))
    assert denied(await s3("GET", "other-bucket", query={"list-type": "2"}))


@pytest.mark.parametrize("path", ["../ws-other/x", "a/../../ws-other/x", "./x", "a//b", "/x", "a/..", "a\x01b"])
async def test_keys_that_are_no_names(s3: S3Caller, workspace: str, path: str) -> None:
    for method in ("PUT", "GET"):
        assert (await s3(method, f"{BUCKET}/{workspace}/{path}", b"x")).status in (400, 403)


async def test_who_is_refused(services: ArtifactsService, http: HttpCaller, workspace: str) -> None:
    path, body = f"{BUCKET}/{workspace}/x", b"x"
    readers = await caller(services, http, workspace, read_only=True)
    assert denied(await readers("PUT", path, body))
    assert denied(await readers("DELETE", path))
    assert (await readers("GET", path)).code == "NoSuchKey"
    late = await caller(services, http, workspace, expires_at=time.time() - 60)
    assert denied(await late("GET", path), "ExpiredToken", 400)
    assert denied(await S3Caller(http, "HY00AAAAAAAAAAAAAAAA", "secret")("GET", path), "InvalidAccessKeyId")
    assert denied(await S3Caller(http, "nobody", "secret")("GET", path), "InvalidAccessKeyId")
    made = await CredentialRows(services.core.database).add(workspace, "alice", read_only=False, expires_at=None)
    assert denied(await S3Caller(http, made.access_key_id, "guess")("GET", path), "SignatureDoesNotMatch")
    assert denied(await S3Caller(http, "hypha", "guess")("GET", path), "SignatureDoesNotMatch")
    url = f"http://hub.example/s3/{path}"
    assert denied(await S3Caller.send(http, "GET", url))


async def test_a_body_that_is_another_than_was_signed(s3: S3Caller, http: HttpCaller, workspace: str) -> None:
    body = f"<Delete><Object><Key>{workspace}/x</Key></Object></Delete>".encode()
    other = body.replace(b"/x", b"/y")
    answer = await s3("POST", BUCKET, body, query={"delete": ""}, sent_body=other)
    assert denied(answer, "XAmzContentSHA256Mismatch", 400)
    harmful = b'<!DOCTYPE a [<!ENTITY b "c">]><Delete><Object><Key>&b;</Key></Object></Delete>'
    assert denied(await s3("POST", BUCKET, harmful, query={"delete": ""}), "MalformedXML", 400)


async def test_no_key_is_a_file_and_a_folder(s3: S3Caller, workspace: str) -> None:
    """Which would break stores that are folders; both ways round, for parts and copies, too."""
    root = f"{BUCKET}/{workspace}"
    await s3("PUT", f"{root}/a/b/c", b"x")
    await s3("PUT", f"{root}/f", b"x")
    for path in ("a", "a/b", "f/g", "f/g/h", "a/b/c/d"):
        answer = await s3("PUT", f"{root}/{path}", b"x")
        assert (answer.status, answer.code) == (409, "OperationAborted")
        assert (await s3("POST", f"{root}/{path}", query={"uploads": ""})).status == 409
        assert (await s3("PUT", f"{root}/{path}", headers={"x-amz-copy-source": f"/{root}/f"})).status == 409
    assert (await s3("GET", f"{root}/a/b/c")).body == b"x"
    assert (await s3("PUT", f"{root}/a/b/c", b"y")).status == 200


async def test_folders_need_no_marker(s3: S3Caller, workspace: str) -> None:
    """Clients that make one go on; nothing is in the way of files in it."""
    root = f"{BUCKET}/{workspace}"
    assert (await s3("PUT", f"{root}/folder/")).status == 200
    assert (await s3("HEAD", f"{root}/folder/")).status == 404
    assert (await s3("PUT", f"{root}/folder/x", b"x")).status == 200
    assert (await s3("HEAD", f"{root}/folder/")).status == 200
    assert (await s3("DELETE", f"{root}/folder/")).status == 204
    assert (await s3("GET", f"{root}/folder/x")).body == b"x"
    assert (await s3("PUT", f"{root}/folder/", b"content")).status == 400


async def test_multipart(services: ArtifactsService, s3: S3Caller, http: HttpCaller, workspace: str) -> None:
    path = f"{BUCKET}/{workspace}/large ü.bin"
    begun = await s3("POST", path, query={"uploads": ""}, headers={"content-type": "x/y", "x-amz-meta-n": "1"})
    upload = begun.texts("UploadId")[0]
    parts = {}
    for number, data in (("1", b"a" * 5 * 2**20), ("2", b"b")):
        answer = await s3("PUT", path, data, query={"partNumber": number, "uploadId": upload})
        parts[number] = answer.headers["etag"]
    listed = await s3("GET", path, query={"uploadId": upload})
    assert (listed.texts("PartNumber"), listed.texts("Size")) == (["1", "2"], [str(5 * 2**20), "1"])
    assert (await s3("GET", BUCKET, query={"uploads": "", "prefix": f"{workspace}/"})).texts("UploadId") == [upload]
    other = f"{BUCKET}/{workspace}/other"
    assert denied(await s3("PUT", other, b"x", query={"partNumber": "1", "uploadId": upload}), "NoSuchUpload", 404)
    assert (await s3("HEAD", path)).status == 404
    backwards = _complete({"2": parts["2"], "1": parts["1"]})
    assert denied(await s3("POST", path, backwards, query={"uploadId": upload}), "InvalidPartOrder", 400)
    done = await s3("POST", path, _complete(parts), query={"uploadId": upload})
    assert done.status == 200
    head = await s3("HEAD", path)
    assert [head.headers[name] for name in ("content-type", "x-amz-meta-n", "content-length")] == [
        "x/y", "1", str(5 * 2**20 + 1)
    ]  # fmt: skip
    assert [head.headers["etag"]] == done.texts("ETag")
    listed_etag = (await s3("GET", BUCKET, query={"prefix": f"{workspace}/"})).texts("ETag")[0]
    for etag in (head.headers["etag"], listed_etag):
        assert (await s3("GET", path, headers={"if-match": etag})).status == 200
    assert denied(await s3("POST", path, _complete(parts), query={"uploadId": upload}), "NoSuchUpload", 404)
    again = (await s3("POST", path, query={"uploads": ""})).texts("UploadId")[0]
    copy = {"x-amz-copy-source": quote(f"/{path}"), "x-amz-copy-source-range": f"bytes=9-{5 * 2**20}"}
    copied = await s3("PUT", path, query={"partNumber": "1", "uploadId": again}, headers=copy)
    assert copied.texts("ETag") == [f'"{hashlib.md5(b"a" * (5 * 2**20 - 9) + b"b").hexdigest()}"']
    for source, piece, code in ((path, "bytes=0-99999999", "InvalidArgument"), (f"{BUCKET}/x", "", "AccessDenied")):
        copy = {"x-amz-copy-source": quote(f"/{source}"), "x-amz-copy-source-range": piece}
        assert (await s3("PUT", path, query={"partNumber": "2", "uploadId": again}, headers=copy)).code == code
    assert (await s3("DELETE", path, query={"uploadId": again})).status == 204
    assert denied(await s3("GET", path, query={"uploadId": again}), "NoSuchUpload", 404)


def _complete(parts: dict[str, str]) -> bytes:
    listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts.items())
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


async def test_uploads_are_bound_to_their_workspace(
    services: ArtifactsService, s3: S3Caller, http: HttpCaller, workspace: str, gateway: Gateway
) -> None:
    upload = (await s3("POST", f"{BUCKET}/{workspace}/x", query={"uploads": ""})).texts("UploadId")[0]
    stranger = await caller(services, http, "ws-user-alice")
    path = f"{BUCKET}/ws-user-alice/x"
    assert denied(await stranger("GET", path, query={"uploadId": upload}), "NoSuchUpload", 404)
    assert denied(await stranger("DELETE", path, query={"uploadId": upload}), "NoSuchUpload", 404)


async def test_content_types_outlive_the_store(
    s3: S3Caller, workspace: str, object_store: ObjectStore, services: ArtifactsService
) -> None:
    path = f"{BUCKET}/{workspace}/figure.bin"
    await s3("PUT", path, b"x", headers={"content-type": "image/x-special", "x-amz-meta-author": "me"})
    object_store.kill()
    object_store.start()
    head = await s3("HEAD", path)
    assert (head.headers["content-type"], head.headers["x-amz-meta-author"]) == ("image/x-special", "me")
    await services.core.store.write(f"{workspace}/figure.bin", b"changed behind", content_type="text/plain")
    head = await s3("HEAD", path)
    assert "x-amz-meta-author" not in head.headers


async def test_own_addresses(services: ArtifactsService, http: HttpCaller, workspace: str) -> None:
    """They do what they were signed for, and nothing else."""
    addresses = services.core.addresses
    key = f"{workspace}/dir/ü +x.json"
    put, get = addresses.sign("PUT", key), addresses.sign("GET", key)
    assert (await S3Caller.send(http, "PUT", put, b"{}", headers={"content-type": "application/x-mine"})).status == 200
    got = await S3Caller.send(http, "GET", get)
    assert (got.body, got.headers["content-type"]) == (b"{}", "application/x-mine")
    assert (await S3Caller.send(http, "HEAD", get)).status == 200
    for method, url in (("PUT", get), ("GET", put), ("DELETE", put), ("GET", get.replace("dir", "dis"))):
        assert denied(await S3Caller.send(http, method, url, b"x"), "SignatureDoesNotMatch")
    copying = {"x-amz-copy-source": f"/{BUCKET}/{workspace}/secret"}
    assert denied(await S3Caller.send(http, "PUT", put, headers=copying))
    elsewhere = services.core.addresses.sign("PUT", key, use_local_url="http://127.0.0.1:1234/base")
    assert elsewhere.startswith("http://127.0.0.1:1234/base/s3/")
    delete = addresses.sign("DELETE", key)
    assert denied(await S3Caller.send(http, "DELETE", delete), "MethodNotAllowed", 405)
    await S3Caller.send(http, "PUT", addresses.sign("PUT", f"{workspace}/f"), b"x")
    assert (await S3Caller.send(http, "PUT", addresses.sign("PUT", f"{workspace}/f/g"), b"x")).status == 409


async def test_addresses_stay_good_when_the_secret_is_changed(
    services: ArtifactsService, http: HttpCaller, workspace: str, s3: S3Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = services.core.addresses.sign("PUT", f"{workspace}/x")
    old, new = services.core.settings.jwt_secret, "n" * 64
    with monkeypatch.context() as changed:
        rotated = services.core.settings.replace(jwt_secret=new, jwt_previous_secrets=(old,))
        changed.setattr(services.workspace_files.front, "_core", replace(services.core, settings=rotated))
        assert (await S3Caller.send(http, "PUT", url, b"x")).status == 200
        assert (await s3("GET", f"{BUCKET}/{workspace}/x")).status == 200
        forgotten = services.core.settings.replace(jwt_secret=new)
        changed.setattr(services.workspace_files.front, "_core", replace(services.core, settings=forgotten))
        assert denied(await S3Caller.send(http, "PUT", url, b"x"), "SignatureDoesNotMatch")


async def test_files_of_artifacts_are_written_while_they_may_be(
    services: ArtifactsService, http: HttpCaller, gateway: Gateway
) -> None:
    """Not before they are announced, nor after they were sealed."""
    database = services.core.database
    identifier = new_uuid("ws-a")
    key = blob_key("ws-a", "one", identifier, "a.txt")
    put, get = services.core.addresses.sign("PUT", key), services.core.addresses.sign("GET", key)
    assert denied(await S3Caller.send(http, "PUT", put, b"x"), "NoSuchKey", 404)
    shard = database.for_workspace("ws-a")
    await shard.execute(
        "INSERT INTO blobs (id, key, workspace, writable_until) VALUES ($1, $2, 'ws-a', now() + interval '1 hour')",
        identifier, key,
    )  # fmt: skip
    typed = {"content-type": "text/x-special"}
    assert (await S3Caller.send(http, "PUT", put, b"bytes", headers=typed)).status == 200
    row = await shard.fetchrow("SELECT size, etag, content_type FROM blobs WHERE id = $1", identifier)
    assert row is not None
    assert tuple(row) == (5, hashlib.md5(b"bytes").hexdigest(), "text/x-special")
    got = await S3Caller.send(http, "GET", get)
    assert (got.body, got.headers["content-type"]) == (b"bytes", "text/x-special")
    await shard.execute("UPDATE blobs SET sealed = true WHERE id = $1", identifier)
    assert (await S3Caller.send(http, "PUT", put, b"other")).status == 409
    await shard.execute("UPDATE blobs SET sealed = false, writable_until = now() WHERE id = $1", identifier)
    assert (await S3Caller.send(http, "PUT", put, b"other")).status == 403
    assert (await S3Caller.send(http, "GET", get)).body == b"bytes"


async def test_a_workspace_that_ends_takes_everything_with_it(
    services: ArtifactsService, s3: S3Caller, workspace: str, gateway: Gateway, http: HttpCaller
) -> None:
    path = f"{BUCKET}/{workspace}/a/b"
    put = services.core.addresses.sign("PUT", f"{workspace}/late")
    await s3("PUT", path, b"x", headers={"content-type": "x/y"})
    kept = f"{workspace}-more/x"
    await services.core.store.write(kept, b"x", content_type="text/plain")
    client = await gateway.connect("ender", user("alice", **{workspace.replace("-", "_"): Permission.ADMIN}), workspace)
    await client.manager.delete_workspace(workspace)
    shard = services.core.database.for_workspace(workspace)
    while await services.core.store.head(f"{workspace}/a/b") is not None:
        await asyncio.sleep(0.02)  # by the broadcast that the workspace service sends
    while await shard.fetchval("SELECT count(*) FROM ended_workspaces WHERE workspace = $1", workspace):
        await asyncio.sleep(0.02)
    assert await services.core.store.head(kept) is not None
    assert denied(await s3("GET", path), "InvalidAccessKeyId")
    assert denied(await S3Caller.send(http, "PUT", put, b"x"))
    for table in ("workspace_objects", "s3_credentials"):
        column = "key" if table == "workspace_objects" else "workspace"
        assert await shard.fetchval(f"SELECT count(*) FROM {table} WHERE {column} LIKE $1", f"{workspace}%") == 0


async def test_keys_of_blocked_users(
    services: ArtifactsService, http: HttpCaller, workspace: str, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom an operator keeps out is kept out here, too; the auth service is asked, which this rig has not."""

    async def policy(message: dict[str, object]) -> dict[str, object]:
        return {"blocks": [["user", "alice", "spam", time.time() + 60]]}

    s3 = await caller(services, http, workspace)
    path = f"{BUCKET}/{workspace}/x"
    assert (await s3("PUT", path, b"x")).status == 200
    subscriptions = gateway.bus._served
    await gateway.bus.serve("auth", "policy", policy)
    await gateway.bus.flush()
    monkeypatch.setattr(services.workspace_files.front, "_blocked", BlockedUsers(services.bus))
    answer = await s3("GET", path)
    assert denied(answer)
    assert b"User is blocked: spam" in answer.body
    await gateway.bus.withdraw([subscriptions.pop()])
