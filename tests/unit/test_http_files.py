"""Requests for files at a real gateway and a real store; what to do with them, the test says."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from http_support import World

from hypha_common.errors import Conflict, NotFound, PermissionDenied
from hypha_common.plans import Fetch, HttpCall, Plan, Reply, Store
from hypha_common.principal import Permission
from tests.fixtures.errors_told import told
from tests.fixtures.object_store import ObjectStore, object_store
from tests.fixtures.plan_maker import PlanMaker, upstream_server

__all__ = ["object_store"]

_FILES = "/lab-a/artifacts/model/files"


@pytest_asyncio.fixture
async def artifacts(world: World, nats_url: str, object_store: ObjectStore) -> AsyncIterator[PlanMaker]:
    maker = await PlanMaker.start(object_store, urls=[nats_url])
    yield maker
    await maker.close()


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, 70_000, 300_000, 3_000_000])
    async def test_there_and_back(self, world: World, artifacts: PlanMaker, size: int) -> None:
        body = os.urandom(size)
        put = await world.http.put(f"{_FILES}/a/data-{size}.bin", content=body, headers=world.bearer())
        assert (put.status_code, put.json()["success"], put.headers["etag"]) == (200, True, _etag(body))
        assert (artifacts.stored[0].receipt, artifacts.stored[0].size) == (b"receipt", size)
        got = await world.http.get(f"{_FILES}/a/data-{size}.bin")
        assert (got.status_code, got.content, got.headers["etag"]) == (200, body, _etag(body))
        assert (got.headers["content-length"], got.headers["accept-ranges"]) == (str(size), "bytes")
        assert (got.headers["content-type"], got.headers["x-content-type-options"]) == (
            "application/octet-stream",
            "nosniff",
        )
        assert "last-modified" in got.headers
        head = await world.http.head(f"{_FILES}/a/data-{size}.bin")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))

    async def test_ranges(self, world: World, artifacts: PlanMaker) -> None:
        body = os.urandom(500_000)
        await world.http.put(f"{_FILES}/parts", content=body)
        for wanted, part, shown in (
            ("bytes=0-9", body[:10], "bytes 0-9/500000"),
            ("bytes=-100", body[-100:], "bytes 499900-499999/500000"),
            ("bytes=100000-", body[100_000:], "bytes 100000-499999/500000"),
        ):
            got = await world.http.get(f"{_FILES}/parts", headers={"Range": wanted})
            assert (got.status_code, got.content, got.headers["content-range"]) == (206, part, shown)
            assert got.headers["content-length"] == str(len(part))
        beyond = await world.http.get(f"{_FILES}/parts", headers={"Range": "bytes=500000-"})
        assert (beyond.status_code, told(beyond)) == (416, {"detail": "The file has no such range"})
        assert beyond.headers["content-range"] == "bytes */500000"

    async def test_missing(self, world: World, artifacts: PlanMaker) -> None:
        artifacts.rules["artifact_files"] = lambda call: artifacts.fetch("GET", "no/such", missing="Nothing here")
        got = await world.http.get(f"{_FILES}/a.txt")
        assert (got.status_code, told(got)) == (404, {"detail": "Nothing here"})

    async def test_without_a_length(self, world: World, artifacts: PlanMaker) -> None:
        """A store needs a length, so such a body is kept until it has one: in memory a short one, else on disk."""
        for size in (0, 1000, 5_000_000):
            body = os.urandom(size)

            async def pieces(body: bytes = body) -> AsyncIterator[bytes]:
                for start in range(0, len(body), 64_000):
                    yield body[start : start + 64_000]

            put = await world.http.put(f"{_FILES}/chunked-{size}", content=pieces())
            assert (put.status_code, put.headers["etag"]) == (200, _etag(body)), put.text
            assert (await world.http.get(f"{_FILES}/chunked-{size}")).content == body
        assert world.app.state.storing._room.taken == 0

    async def test_too_large(self, world: World, artifacts: PlanMaker) -> None:
        """What is larger than a file may be is refused, at best before it is sent; and nothing is said to be stored."""
        artifacts.max_bytes = 100_000

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield bytes(50_000)

        for content in (bytes(100_001), pieces()):
            put = await world.http.put(f"{_FILES}/big", content=content)
            assert (put.status_code, told(put)) == (413, {"detail": "The file is larger than 100000 bytes"})
        assert artifacts.stored == []
        assert (await world.http.get(f"{_FILES}/big")).status_code == 404

    async def test_larger_than_messages(self, world: World, artifacts: PlanMaker) -> None:
        """The limit of messages is none for files; bodies that the artifacts service reads have a lower one."""
        body = bytes(world.app.state.gateway.settings.max_message_bytes + 1)
        assert (await world.http.put(f"{_FILES}/large", content=body)).status_code == 200
        uploads = "/lab-a/artifacts/model/complete-multipart-upload"
        artifacts.rules["artifact_complete_upload"] = lambda call: Reply(200, [], str(len(call.body)).encode())
        assert (await world.http.post(uploads, content=bytes(2**20))).text == str(2**20)
        assert (await world.http.post(uploads, content=bytes(2**20 + 1))).status_code == 413

    async def test_aws_chunks(self, world: World, artifacts: PlanMaker) -> None:
        """Framing is taken off; what does not fit it is refused, and not stored."""
        artifacts.chunked = True
        body = os.urandom(300_000)
        signature = b";chunk-signature=" + b"0" * 64
        framed = b"".join(
            (b"%x" % len(part)) + signature + b"\r\n" + part + b"\r\n"
            for part in (body[:65536], body[65536:200_000], body[200_000:])
        )
        framed += b"0" + signature + b"\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
        decoded = {"X-Amz-Decoded-Content-Length": "300000"}
        put = await world.http.put("/s3/bucket/framed", content=framed, headers=decoded)
        assert (put.status_code, put.headers["etag"]) == (200, _etag(body)), put.text
        assert artifacts.stored[-1].size == 300_000
        for broken, headers in (
            (framed[:-200_000], decoded),
            (b"zz\r\n" + framed, decoded),
            (framed, {"X-Amz-Decoded-Content-Length": "299999"}),
            (framed, {"X-Amz-Decoded-Content-Length": "300001"}),
            (framed, {"X-Amz-Decoded-Content-Length": "many"}),
            (b"1\r\nab\r\n0\r\n\r\n", {"X-Amz-Decoded-Content-Length": "2"}),
        ):
            put = await world.http.put("/s3/bucket/broken", content=broken, headers=headers)
            assert put.status_code == 400, put.text
            assert put.text.startswith("<?xml") and "<Code>InvalidRequest</Code>" in put.text
        assert len(artifacts.stored) == 1
        assert (await world.http.get("/s3/bucket/broken")).status_code == 404

    async def test_replies(self, world: World, artifacts: PlanMaker) -> None:
        """Large JSON is compressed, a redirect led on, what the service refuses told with its status."""
        text = b'{"a":"' + b"a" * 5000 + b'"}'
        kind = ("content-type", "application/json")
        for plan, status in (
            (Reply(200, [kind], text), 200),
            (Reply(307, [("location", "http://store.example/a?b=c")]), 307),
            (Reply(304, [("etag", '"x"')]), 304),
        ):
            artifacts.rules["artifact"] = lambda call, plan=plan: plan  # type: ignore[misc]
            got = await world.http.get("/lab-a/artifacts/model", headers={"Accept-Encoding": "gzip"})
            assert got.status_code == status
            assert got.content == plan.body
            assert got.headers.get("content-encoding") == ("gzip" if plan.body else None)
        for error in (NotFound("none"), PermissionDenied("no"), Conflict("taken")):
            artifacts.rules["artifact"] = lambda call, error=error: _raise(error)  # type: ignore[misc]
            got = await world.http.get("/lab-a/artifacts/model")
            assert (got.status_code, told(got)) == (error.status, {"detail": error.message})

    async def test_never_compressed(self, world: World, artifacts: PlanMaker) -> None:
        artifacts.headers = [("content-type", "text/plain; charset=utf-8")]
        await world.http.put(f"{_FILES}/text", content=b"a" * 300_000)
        got = await world.http.get(f"{_FILES}/text", headers={"Accept-Encoding": "gzip, br, zstd"})
        assert (got.headers.get("content-encoding"), len(got.content)) == (None, 300_000)

    async def test_replaced_headers(self, world: World, artifacts: PlanMaker) -> None:
        artifacts.headers = [("ETag", '"ours"'), ("content-type", "text/csv"), ("x-extra", "yes"), ("x bad", "no")]
        await world.http.put(f"{_FILES}/table", content=b"a,b")
        got = await world.http.get(f"{_FILES}/table")
        assert (got.headers.get_list("etag"), got.headers["content-type"]) == (['"ours"'], "text/csv")
        assert (got.headers["x-extra"], "x bad" in got.headers) == ("yes", False)

    async def test_nobody_serves(self, world: World) -> None:
        for path, start in ((_FILES + "/a", "{"), ("/lab-a/files/a", '{"success":false'), ("/s3/b/k", "<?xml")):
            got = await world.http.get(path)
            assert (got.status_code, got.headers["retry-after"]) == (503, "1")
            assert got.text.startswith(start)

    @pytest.mark.parametrize("world", [{"disable_s3": True}], indirect=True)
    async def test_no_storage(self, world: World) -> None:
        got = await world.http.get(f"{_FILES}/a")
        assert (got.status_code, told(got)) == (404, {"detail": "This server keeps no files"})


def _raise(error: Exception) -> Plan:
    raise error


class TestTheStore:
    async def test_away(self, world: World, artifacts: PlanMaker) -> None:
        """Nothing of the store is told."""
        artifacts.rules["artifact_files"] = lambda call: Fetch("http://127.0.0.1:9/secret-bucket/key?X-Amz-Signature=1")
        for method in ("GET", "HEAD"):
            got = await world.http.request(method, f"{_FILES}/a")
            assert (got.status_code, got.headers["retry-after"]) == (503, "1")
            assert "secret-bucket" not in got.text

    async def test_refuses(self, world: World, artifacts: PlanMaker, object_store: ObjectStore) -> None:
        """A signature that the store does not take is our fault, not the client's."""
        artifacts.rules["artifact_files"] = lambda call: Fetch(f"{object_store.url}/test-bucket/key")
        got = await world.http.get(f"{_FILES}/a")
        assert got.status_code == 502
        assert "bucket" not in got.text


class TestPatience:
    async def test_drips(self, world: World, artifacts: PlanMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A body may take as long as it moves, however large it is."""
        monkeypatch.setattr("hypha_gateway.http.files.exchange.IDLE_S", 0.3)

        async def pieces(pauses: list[float]) -> AsyncIterator[bytes]:
            for pause in pauses:
                await asyncio.sleep(pause)
                yield b"x" * 1000

        steady = [0.1] * 6
        put = await world.http.put(f"{_FILES}/steady", content=pieces(steady), headers={"Content-Length": "6000"})
        assert put.status_code == 200
        for headers in ({"Content-Length": "600000"}, {"Content-Length": "2000"}, {}):
            put = await world.http.put(f"{_FILES}/asleep", content=pieces([0.1, 5]), headers=headers)
            assert (put.status_code, told(put)) == (408, {"detail": "Nothing of the request body came for 0.3 s"})
        assert len(artifacts.stored) == 1

    async def test_store_hangs(self, world: World, artifacts: PlanMaker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store that takes a body and says nothing, or takes nothing, is given up."""
        monkeypatch.setattr("hypha_gateway.http.files.storing.IDLE_S", 0.1)
        monkeypatch.setattr("hypha_gateway.http.files.upstream.IDLE_S", 0.2)

        async with upstream_server(_say_nothing) as url:
            artifacts.rules["artifact_files"] = lambda call: Store(url, b"") if call.method == "PUT" else Fetch(url)
            for size in (10, 20_000_000):
                assert (await world.http.put(f"{_FILES}/a", content=bytes(size))).status_code == 503
            assert (await world.http.get(f"{_FILES}/a")).status_code == 503
        assert artifacts.stored == []


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.Event().wait()


class TestPaths:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("a%20b.txt", "a b.txt"),
            ("a+b.txt", "a+b.txt"),
            ("100%25.txt", "100%.txt"),
            ("%2525", "%25"),
            ("a%23b%3Fc", "a#b?c"),
            ("%C3%A4%E2%82%AC.txt", "ä€.txt"),
            ("a//b", "a//b"),
            ("a%2Fb", "a/b"),
            ("..%2F..%2Fetc", "../../etc"),
            ("a%0Ab%0A", "a\nb\n"),
            ("a%5Cb%22c%27", "a\\b\"c'"),
            ("sub/", "sub/"),
            ("", ""),
        ],
    )
    async def test_decoded_once(self, world: World, artifacts: PlanMaker, written: str, meant: str) -> None:
        for prefix, route, name in (
            (_FILES, "artifact_files", "path"),
            ("/lab-a/view/model", "artifact_view", "path"),
            ("/lab-a/files", "workspace_files", "path"),
            ("/s3/bucket", "s3", "key"),
        ):
            artifacts.rules[route] = lambda call: Reply(200)
            await _get_raw(world, f"{prefix}/{written}?x=%2B+1&y")
            call = artifacts.calls[-1]
            assert (call.route, call.params.get(name, "")) == (route, meant)
            assert call.headers["x-hypha-raw-path"] == f"{prefix}/{written}"
            assert call.query == [("x", "+ 1"), ("y", "")]
            if route == "s3":
                assert call.headers["x-hypha-raw-query"] == "x=%2B+1&y"

    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("artifacts", "artifacts"),
            ("artifacts/", "artifacts"),
            ("artifacts/-/search", "artifact_search"),
            ("artifacts/model", "artifact"),
            ("artifacts/model/", "artifact"),
            ("artifacts/model/children", "artifact_children"),
            ("artifacts/model/files", "artifact_files"),
            ("artifacts/model/files/", "artifact_files"),
            ("artifacts/model/create-zip-file", "artifact_zip"),
            ("artifacts/model/zip-files/a.zip/~/b", "artifact_zip_files"),
            ("view/model", "artifact_view"),
            ("view/model/", "artifact_view"),
            ("files", "workspace_files"),
            ("files/", "workspace_files"),
            ("files/create-multipart-upload", "workspace_files"),
        ],
    )
    async def test_routes(self, world: World, artifacts: PlanMaker, path: str, route: str) -> None:
        artifacts.rules[route] = lambda call: Reply(200)
        assert (await world.http.get(f"/lab-a/{path}")).status_code == 200
        assert (artifacts.calls[-1].route, artifacts.calls[-1].params["workspace"]) == (route, "lab-a")

    @pytest.mark.parametrize("prefix", ["/lab-a", "/lab-a/files", "/lab-a/artifacts/model"])
    async def test_uploads(self, world: World, artifacts: PlanMaker, prefix: str) -> None:
        name = "artifact" if "model" in prefix else "workspace"
        for action in ("create", "complete"):
            artifacts.rules[f"{name}_{action}_upload"] = lambda call: Reply(200, [], call.body)
            answer = await world.http.post(f"{prefix}/{action}-multipart-upload?path=a", json={"x": 1})
            assert (answer.status_code, answer.json()) == (200, {"x": 1})

    async def test_no_utf8(self, world: World, artifacts: PlanMaker) -> None:
        got = await _get_raw(world, f"{_FILES}/%ff")
        assert (got, artifacts.calls) == (400, [])

    async def test_bad_query(self, world: World, artifacts: PlanMaker) -> None:
        assert await _get_raw(world, f"{_FILES}/a?b=%ff") == 400

    async def test_names_in_headers(self, world: World, artifacts: PlanMaker) -> None:
        """A name cannot begin another header."""
        artifacts.rules["artifact_zip"] = lambda call: Reply(
            200, [("content-disposition", 'attachment; filename="a\r\nSet-Cookie: b=c.zip"')]
        )
        got = await world.http.get("/lab-a/artifacts/model/create-zip-file")
        assert got.status_code == 200
        assert "set-cookie" not in got.headers

    @pytest.mark.parametrize("world", [{"base_path": "/hub"}], indirect=True)
    async def test_base_path(self, world: World, artifacts: PlanMaker) -> None:
        artifacts.rules["s3"] = lambda call: Reply(200)
        assert (await world.http.get("/hub/s3/bucket/a%20b")).status_code == 200
        call = artifacts.calls[-1]
        assert (call.params["key"], call.headers["x-hypha-raw-path"]) == ("a b", "/s3/bucket/a%20b")
        assert call.base_url == "http://gateway.example/hub"


async def _get_raw(world: World, target: str) -> int:
    """Ask for a path that is sent as it is written here."""
    url = world.http.base_url.copy_with(raw_path=target.encode())
    return (await world.http.get(url)).status_code


class TestCallers:
    async def test_who(self, world: World, artifacts: PlanMaker) -> None:
        artifacts.rules["artifact"] = lambda call: Reply(200)
        for headers, user, workspace in (
            ({}, "anonymouz-http", "ws-anonymous"),
            (world.bearer(), "u1", "lab-a"),
            (world.bearer("u2", workspaces={"lab-z": Permission.ADMIN}, current_workspace="lab-z"), "u2", "lab-z"),
            (world.bearer("u2"), "u2", "ws-user-u2"),
        ):
            assert (await world.http.get("/lab-a/artifacts/model", headers=headers)).status_code == 200
            call = artifacts.calls[-1]
            assert (call.user["id"], call.workspace) == (user, workspace)
        assert (
            await world.http.get("/lab-a/artifacts/model", headers={"Authorization": "Bearer x"})
        ).status_code == 401

    async def test_token_in_the_query(self, world: World, artifacts: PlanMaker) -> None:
        token = world.bearer()["Authorization"].removeprefix("Bearer ")
        for path in (
            "/lab-a/artifacts/model/files/a", "/lab-a/artifacts/model/create-zip-file", "/lab-a/view/model/a",
            "/lab-a/artifacts/model/zip-files/a.zip",
        ):  # fmt: skip
            for route in ("artifact_files", "artifact_zip", "artifact_zip_files", "artifact_view"):
                artifacts.rules[route] = lambda call: Reply(200)
            assert (await world.http.get(f"{path}?token={token}&v=1")).status_code == 200
            call = artifacts.calls[-1]
            assert (call.user["id"], call.query) == ("u1", [("v", "1")])
            assert call.headers["x-hypha-raw-query"] == f"token={token}&v=1"  # for redirects to what is beside it
            # In place of whatever else the request has.
            other = world.bearer("u2", workspaces={"lab-a": Permission.READ})
            assert (await world.http.get(f"{path}?token={token}", headers=other)).status_code == 200
            assert artifacts.calls[-1].user["id"] == "u1"
            bad = await world.http.get(f"{path}?token=nonsense", headers=other)
            assert bad.status_code == 401
        artifacts.rules["artifact"] = lambda call: Reply(200)
        assert (await world.http.get(f"/lab-a/artifacts/model?token={token}")).status_code == 200
        assert artifacts.calls[-1].user["id"] == "anonymouz-http"  # not for this route

    async def test_tokens_of_files(self, world: World, artifacts: PlanMaker) -> None:
        """They reach the artifacts service with requests for files, and nothing else."""
        for scope in ("get_file:lab-a/model:a", "put_file:lab-a/model:*"):
            header = world.bearer(
                "u1", workspaces={"lab-a": Permission.ADMIN}, current_workspace="lab-a", extra_scopes=(scope,)
            )
            token = header["Authorization"].removeprefix("Bearer ")
            artifacts.rules["artifact_files"] = lambda call: Reply(200)
            for url, headers in ((f"{_FILES}/a?token={token}", {}), (f"{_FILES}/a", header)):
                assert (await world.http.get(url, headers=headers)).status_code == 200
                assert artifacts.calls[-1].user["scope"]["extra_scopes"] == [scope]
            asked = len(artifacts.calls)
            for path in (
                "artifacts/model", "artifacts", "artifacts/model/create-zip-file", "artifacts/model/zip-files/a",
                "view/model/a", "files/a", "info", "services/",
            ):  # fmt: skip
                for url, headers in ((f"/lab-a/{path}?token={token}", header), (f"/lab-a/{path}", header)):
                    got = await world.http.get(url, headers=headers)
                    assert got.status_code == 403, path
                    assert "Specialized token" in got.text
            put = await world.http.put("/lab-a/files/a", headers=header, content=b"a")
            assert (put.status_code, len(artifacts.calls)) == (403, asked)

    async def test_own_nothing(self, world: World, artifacts: PlanMaker) -> None:
        """A token of files does not make its bearer the owner that its user is."""
        header = world.bearer("u1", extra_scopes=("get_file:lab-a/model:a",))
        artifacts.rules["artifact_files"] = lambda call: Reply(200)
        assert (await world.http.get(f"{_FILES}/a", headers=header)).status_code == 200
        assert "lab-a" not in artifacts.calls[-1].user["scope"]["workspaces"]

    async def test_s3_is_for_nobody(self, world: World, artifacts: PlanMaker) -> None:
        """All headers go there, and no identity: the signature is it."""
        artifacts.rules["s3"] = lambda call: Reply(200, [], call.body)
        header = {"Authorization": "AWS4-HMAC-SHA256 Credential=a/b", "X-Amz-Date": "20261126T000000Z"}
        answer = await world.http.post("/s3/bucket/key?uploads", content=b"<xml/>", headers=header)
        call = artifacts.calls[-1]
        assert (answer.status_code, answer.content, call.user["id"]) == (200, b"<xml/>", "anonymouz-http")
        assert call.headers["authorization"] == header["Authorization"]
        assert call.headers["x-amz-date"] == header["X-Amz-Date"]
        assert (call.query, call.headers["host"]) == ([("uploads", "")], "gateway.example")
        assert (await world.http.put("/s3/bucket?versioning", content=b"<xml/>")).content == b"<xml/>"
        too_large = await world.http.post("/s3/bucket?delete", content=bytes(2**21 + 1))
        assert (too_large.status_code, "<Code>EntityTooLarge</Code>" in too_large.text) == (413, True)


class TestUserContent:
    @pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "image/svg+xml", "application/xhtml+xml", "text/xml"])
    async def test_sandboxed(self, world: World, artifacts: PlanMaker, kind: str) -> None:
        artifacts.headers = [("content-type", kind), ("content-security-policy", "default-src *")]
        for path in (f"{_FILES}/page", "/lab-a/files/page", "/lab-a/view/site/page", "/s3/bucket/page"):
            await world.http.put(path.replace("/view/site", "/files"), content=b"<script>alert(1)</script>")
            artifacts.rules["artifact_view"] = lambda call: artifacts.fetch("GET", "workspace_files/page")
            got = await world.http.get(path)
            assert got.status_code == 200
            policies = got.headers.get_list("content-security-policy")
            assert any("sandbox" in policy and "allow-same-origin" not in policy for policy in policies)
            assert got.headers["x-content-type-options"] == "nosniff"

    async def test_pages_that_are_made(self, world: World, artifacts: PlanMaker) -> None:
        """Headers that only the server may set are not for users."""
        artifacts.rules["artifact_view"] = lambda call: Reply(
            200,
            [
                ("content-type", "text/html"), ("set-cookie", "access_token=evil"), ("Service-Worker-Allowed", "/"),
                ("access-control-allow-origin", "*"), ("clear-site-data", '"*"'), ("x-own", "1"),
            ],
            b"<p>",
        )  # fmt: skip
        got = await world.http.get("/lab-a/view/site/", headers={"Origin": "https://page.example"})
        assert got.headers.get_list("access-control-allow-origin") == ["https://page.example"]
        assert (got.headers["x-own"], "sandbox" in got.headers["content-security-policy"]) == ("1", True)
        assert not {"set-cookie", "service-worker-allowed", "clear-site-data"} & set(got.headers)

    async def test_not_where_nothing_runs(self, world: World, artifacts: PlanMaker) -> None:
        """The viewer of PDF files does not work in a sandbox."""
        artifacts.headers = [("content-type", "application/pdf")]
        await world.http.put(f"{_FILES}/paper", content=b"%PDF")
        assert "content-security-policy" not in (await world.http.get(f"{_FILES}/paper")).headers


class TestOtherOrigins:
    async def test_preflight(self, world: World) -> None:
        for path in ("/s3/bucket/key", f"{_FILES}/a", "/lab-a/files/a"):
            asked = await world.http.options(
                path,
                headers={
                    "Origin": "https://page.example",
                    "Access-Control-Request-Method": "PUT",
                    "Access-Control-Request-Headers": "content-type,range,x-amz-meta-a,x-amz-date,x-evil",
                },
            )
            assert asked.status_code == 200
            allowed = {name.strip().lower() for name in asked.headers["access-control-allow-headers"].split(",")}
            assert {"content-type", "range", "x-amz-meta-a", "x-amz-date"} <= allowed
            assert "x-evil" not in allowed
            assert "PUT" in asked.headers["access-control-allow-methods"]

    async def test_exposed(self, world: World, artifacts: PlanMaker) -> None:
        got = await world.http.get(f"{_FILES}/a", headers={"Origin": "https://page.example"})
        exposed = got.headers["access-control-expose-headers"]
        for name in ("ETag", "Content-Range", "Accept-Ranges", "Content-Length"):
            assert name in exposed.split(", ")


async def test_what_the_service_is_told(world: World, artifacts: PlanMaker) -> None:
    """The headers that matter, and no token."""
    told: list[HttpCall] = artifacts.calls
    artifacts.rules["artifact_files"] = lambda call: Reply(200)
    conditions = {"If-None-Match": '"x"', "Range": "bytes=0-1", "Accept": "text/html", "Cookie": "a=b", "X-Other": "c"}
    await world.http.get(f"{_FILES}/a", headers={**conditions, **world.bearer()})
    assert set(told[-1].headers) == {"accept", "if-none-match", "range", "x-hypha-raw-path", "x-hypha-raw-query"}
    assert told[-1].base_url == "http://gateway.example"
    await world.http.get(f"{_FILES}/a", headers={"X-Forwarded-Proto": "https"})
    assert told[-1].base_url == "https://gateway.example"
