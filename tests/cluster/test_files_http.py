"""Files over HTTP at a whole cluster, two gateways and two replicas of each service, as curl or a browser asks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import psutil
import pytest
import pytest_asyncio
from hypha_rpc import connect_to_server

from hypha_common.ids import new_id
from tests.cluster.raw_socket import raw_socket
from tests.cluster.running_cluster import RunningCluster

_MIB = 2**20
_MAX_GROWTH_MIB = 64
_ODD_NAMES = (
    "a b.txt",
    "a+b&c=d.txt",
    "100%.txt",
    "a#b?c.txt",
    "ä€ 日本.txt",
    "%2e%2e.txt",
    "a'\"(1).txt",
    "x;y,z.txt",
    "c:d",
)


class _Owner:
    """Somebody with a workspace, and somebody else's connection to look with."""

    def __init__(self, cluster: RunningCluster, http: aiohttp.ClientSession) -> None:
        self.name = f"user-{new_id(8).lower()}"
        self.workspace = f"ws-user-{self.name}"
        self.token = cluster.user_token(self.name)
        self.bearer = {"Authorization": f"Bearer {self.token}"}
        self.urls = cluster.gateway_urls
        self._http = http

    def address(self, path: str, gateway: int = 0) -> str:
        return f"{self.urls[gateway]}/{self.workspace}/{path}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        gateway: int = 0,
        token: bool = True,
        headers: dict[str, str] | None = None,
        **o: Any,
    ) -> tuple[int, Any, bytes]:
        sent = {**(self.bearer if token else {}), **(headers or {})}
        url = self.address(path, gateway)
        async with self._http.request(method, url, headers=sent, allow_redirects=False, **o) as answer:
            return answer.status, answer.headers, await answer.read()


@pytest_asyncio.fixture
async def owner(two_gateways: RunningCluster) -> AsyncIterator[_Owner]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        yield _Owner(two_gateways, http)


@pytest_asyncio.fixture
async def artifact(owner: _Owner) -> AsyncIterator[Any]:
    """The artifact manager, where the owner has an artifact ``data`` with a draft."""
    async with connect_to_server({"server_url": owner.urls[0], "token": owner.token}) as server:
        manager = await server.get_service("public/artifact-manager")
        await manager.create(alias="data", manifest={"name": "Data"}, stage=True)
        yield manager


_PLACES = ("files", "artifacts/data/files")


@pytest.mark.usefixtures("artifact")
class TestFiles:
    @pytest.mark.parametrize("place", _PLACES)
    async def test_put_get_head(self, owner: _Owner, place: str) -> None:
        """What one gateway takes, the other has: whole, in parts, and only where it is another one."""
        body = os.urandom(700_000)
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        draft = "" if place == "files" else "?stage=true"
        status, headers, answer = await owner.ask("PUT", f"{place}/sub/data.csv", data=body)
        assert (status, headers["etag"]) == (200, etag), answer
        path = f"{place}/sub/data.csv{draft}"
        status, headers, answer = await owner.ask("GET", path, gateway=1)
        assert (status, answer, headers["etag"]) == (200, body, etag)
        assert headers["content-type"].startswith("text/csv")
        assert (headers["accept-ranges"], headers["x-content-type-options"]) == ("bytes", "nosniff")
        status, headers, answer = await owner.ask("HEAD", path)
        assert (status, headers["content-length"], answer) == (200, "700000", b"")
        for wanted, part in (("bytes=5-9", body[5:10]), ("bytes=-7", body[-7:]), ("bytes=600000-", body[600_000:])):
            status, headers, answer = await owner.ask("GET", path, headers={"Range": wanted})
            assert (status, answer) == (206, part)
            assert headers["content-range"].endswith("/700000")
        status, headers, _ = await owner.ask("GET", path, headers={"Range": "bytes=700000-"})
        assert (status, headers["content-range"]) == (416, "bytes */700000")
        status, _, answer = await owner.ask("GET", path, headers={"If-None-Match": etag})
        assert (status, answer) == (304, b"")
        status, _, answer = await owner.ask("GET", path, headers={"If-None-Match": '"other"'})
        assert (status, answer) == (200, body)

    @pytest.mark.parametrize("place", _PLACES)
    async def test_without_a_length(self, owner: _Owner, place: str) -> None:
        body = os.urandom(2_500_000)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 70_000):
                yield body[start : start + 70_000]

        assert (await owner.ask("PUT", f"{place}/chunked", data=pieces()))[0] == 200
        draft = "" if place == "files" else "?stage=true"
        assert (await owner.ask("GET", f"{place}/chunked{draft}", gateway=1))[2] == body

    @pytest.mark.parametrize("place", _PLACES)
    async def test_odd_names(self, owner: _Owner, place: str) -> None:
        """Each name is one file, and listed as it was given."""
        draft = "" if place == "files" else "?stage=true"
        for name in _ODD_NAMES:
            status, _, answer = await owner.ask("PUT", f"{place}/odd/{quote(name)}", data=name.encode())
            assert status == 200, answer
        for name in _ODD_NAMES:
            status, _, answer = await owner.ask("GET", f"{place}/odd/{quote(name)}{draft}", gateway=1)
            assert (status, answer) == (200, name.encode())
        _, _, listed = await owner.ask("GET", f"{place}/odd/{draft}")
        for name in _ODD_NAMES:
            assert quote(name) in quote(listed.decode().replace('\\"', '"'))

    @pytest.mark.parametrize("place", _PLACES)
    async def test_paths_that_lead_astray(self, owner: _Owner, place: str) -> None:
        """Refused as they are written: nothing on the way makes another path of them."""
        host = urlsplit(owner.urls[0]).netloc
        for path in ("../../../etc/passwd", "..%2f..%2fx", "a/%2e%2e/../../b", "a%00b", "a%0Ab", "%ff", "a" * 300):
            for method in ("GET", "PUT"):
                async with raw_socket(owner.urls[0]) as client:
                    head = f"{method} /{owner.workspace}/{place}/{path} HTTP/1.1\r\nHost: {host}\r\n"
                    await client.send(
                        f"{head}Authorization: Bearer {owner.token}\r\nContent-Length: 0\r\n\r\n".encode()
                    )
                    status, body = await client.answer()
                    assert status in (400, 404), (method, path, body)
                    assert status == 400 or method == "GET", (method, path, body)
                    assert b"Traceback" not in body

    @pytest.mark.parametrize("place", _PLACES)
    async def test_strangers(self, owner: _Owner, two_gateways: RunningCluster, place: str) -> None:
        await owner.ask("PUT", f"{place}/mine", data=b"mine")
        stranger = {"Authorization": f"Bearer {two_gateways.user_token()}"}
        for headers in ({}, stranger):
            for method in ("GET", "HEAD", "PUT"):
                status, _, answer = await owner.ask(
                    method, f"{place}/mine", token=False, headers=headers, data=b"theirs"
                )
                assert status == 403, answer
        bad = {"Authorization": "Bearer nonsense"}
        assert (await owner.ask("GET", f"{place}/mine", token=False, headers=bad))[0] == 401

    @pytest.mark.parametrize("place", _PLACES)
    async def test_unfinished_upload(self, owner: _Owner, place: str) -> None:
        """What was never sent to its end is not there; what was there before still is."""
        draft = "" if place == "files" else "?stage=true"
        await owner.ask("PUT", f"{place}/steady", data=b"before")
        host = urlsplit(owner.urls[0]).netloc
        for name in ("steady", "fresh"):
            async with raw_socket(owner.urls[0]) as client:
                head = f"PUT /{owner.workspace}/{place}/{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9000000\r\n"
                await client.send(f"{head}Authorization: Bearer {owner.token}\r\n\r\n".encode() + os.urandom(400_000))
                await asyncio.sleep(0.2)  # some of it is at the store
        for _ in range(20):
            assert (await owner.ask("GET", f"{place}/steady{draft}", gateway=1))[2] == b"before"
            assert (await owner.ask("GET", f"{place}/fresh{draft}", gateway=1))[0] == 404
            await asyncio.sleep(0.02)

    async def test_large(self, owner: _Owner, two_gateways: RunningCluster) -> None:
        """Larger than a frame may be."""
        body = os.urandom(20_000_000)
        assert (await owner.ask("PUT", "files/large", data=io.BytesIO(body)))[0] == 200
        assert (await owner.ask("GET", "files/large", gateway=1))[2] == body
        assert (await owner.ask("DELETE", "files/large"))[0] == 200
        assert (await owner.ask("GET", "files/large", gateway=1))[0] == 404


class TestAddresses:
    async def test_of_our_own(self, owner: _Owner, two_gateways: RunningCluster) -> None:
        """A signed address needs nothing else, and does nothing else; whatever the name is."""
        async with (
            connect_to_server({"server_url": owner.urls[0], "token": owner.token}) as server,
            aiohttp.ClientSession() as http,
        ):
            storage = await server.get_service("public/s3-storage")
            for name in ("plain.txt", "folder/ä b+c%20d#e.txt"):
                put = await storage.put_file(name, use_proxy=True)
                body = os.urandom(300_000)
                async with http.put(_encoded(put), data=body) as answer:
                    assert answer.status == 200, await answer.text()
                    assert answer.headers["etag"] == f'"{hashlib.md5(body).hexdigest()}"'
                get = await storage.get_file(name, use_proxy=True)
                async with http.get(_encoded(get), headers={"Range": "bytes=1-3"}) as part:
                    assert (part.status, await part.read()) == (206, body[1:4])
                for method, url in (("PUT", get), ("DELETE", put), ("GET", put)):
                    async with http.request(method, _encoded(url)) as refused:
                        assert refused.status == 403
                        assert "<Code>" in await refused.text()
                async with http.get(_encoded(get.replace(".txt", ".csv"))) as refused:
                    assert refused.status == 403


def _encoded(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


class TestTokensOfFiles:
    async def test_one_file(self, owner: _Owner, artifact: Any) -> None:
        """Good for the file that it names, and no other; not for the archive, the page or what is told of it."""
        for name in ("a.txt", "b.txt"):
            await owner.ask("PUT", f"artifacts/data/files/{name}", data=name.encode())
        await artifact.commit("data")
        token = await _token(owner, f"get_file:{owner.workspace}/data:a.txt")
        path = "artifacts/data/files"
        status, _, answer = await owner.ask("GET", f"{path}/a.txt?token={token}", token=False)
        assert (status, answer) == (200, b"a.txt")
        header = {"Authorization": f"Bearer {token}"}
        for method, refused in (
            ("GET", f"{path}/b.txt"), ("PUT", f"{path}/a.txt"), ("GET", path), ("GET", "artifacts/data"),
            ("GET", "artifacts/data/create-zip-file"), ("GET", "view/data/a.txt"), ("GET", "files/"),
            ("GET", "artifacts/"),
        ):  # fmt: skip
            status, _, answer = await owner.ask(method, f"{refused}?token={token}", token=False, headers=header)
            assert status == 403, (method, refused, answer)


class TestPages:
    async def test_with_a_token(self, owner: _Owner, artifact: Any) -> None:
        """A link with a token leads to the page, also where a slash is missing; the page is in a sandbox."""
        await owner.ask("PUT", "artifacts/data/files/index.html", data=b"<p>hello")
        await artifact.edit(
            "data", config={"view_config": {"headers": {"set-cookie": "a=b", "x-own": "1"}}}, stage=True
        )
        await artifact.commit("data")
        html = {"Accept": "text/html"}
        status, headers, _ = await owner.ask("GET", f"view/data?token={owner.token}", token=False, headers=html)
        assert (status, headers["location"]) == (307, f"./data/?token={owner.token}")
        status, headers, page = await owner.ask("GET", f"view/data/?token={owner.token}", token=False, headers=html)
        assert (status, page, headers["x-own"]) == (200, b"<p>hello", "1")
        assert headers["content-security-policy"].startswith("sandbox allow-scripts")
        assert "set-cookie" not in headers
        assert (await owner.ask("GET", "view/data/", token=False, headers=html))[0] == 403


async def _token(owner: _Owner, scope: str) -> str:
    async with connect_to_server({"server_url": owner.urls[0], "token": owner.token}) as server:
        token: str = await server.generate_token(
            {"workspace": owner.workspace, "permission": "read", "extra_scopes": [scope]}
        )
        return token


@pytest.mark.usefixtures("artifact")
class TestMemory:
    """Nothing holds a file whole, whichever way it comes."""

    async def test_200_mib(self, owner: _Owner, two_gateways: RunningCluster) -> None:
        await _grows_little(owner, two_gateways, 200)

    @pytest.mark.slow
    async def test_1_gib(self, owner: _Owner, two_gateways: RunningCluster) -> None:
        await _grows_little(owner, two_gateways, 1024)


async def _grows_little(owner: _Owner, cluster: RunningCluster, size_mib: int) -> None:
    """Put and get a file, with a length and without, and look at the memory of every process meanwhile."""
    watched = [psutil.Process(pid) for role, pids in cluster.pids.items() if role != "postgres" for pid in pids]
    before = {process.pid: process.memory_info().rss for process in watched}
    highest = dict(before)
    piece = os.urandom(_MIB)

    def look() -> None:
        for process in watched:
            highest[process.pid] = max(highest[process.pid], process.memory_info().rss)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(size_mib):
            if at % 8 == 0:
                look()
            yield piece

    url = owner.address("files/large.bin")
    async with aiohttp.ClientSession(headers=owner.bearer) as http:
        for headers in ({"Content-Length": str(size_mib * _MIB)}, {}):
            async with http.put(url, data=pieces(), headers=headers) as put:
                assert put.status == 200
            digest, received = hashlib.sha256(), 0
            async with http.get(url) as got:
                async for part in got.content.iter_any():
                    digest.update(part)
                    received += len(part)
                    if received % (8 * _MIB) < len(part):
                        look()
            expected = hashlib.sha256()
            for _ in range(size_mib):
                expected.update(piece)
            assert (received, digest.digest()) == (size_mib * _MIB, expected.digest())
        async with http.delete(url) as gone:
            assert gone.status == 200
    growth = {process.pid: (highest[process.pid] - before[process.pid]) // _MIB for process in watched}
    print(cluster.pids, growth)  # shown with -s, or where it is too much
    assert max(growth.values()) <= _MAX_GROWTH_MIB, growth
