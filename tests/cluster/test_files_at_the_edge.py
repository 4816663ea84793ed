"""
Files through whole gateways, with real sockets, real stores and ones that misbehave; what to do with a request, the
test says.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
import pytest_asyncio

from hypha_common.plans import Fetch, Store
from tests.cluster.raw_socket import raw_socket
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.nats import nats_passwords
from tests.fixtures.object_store import ObjectStore, object_store
from tests.fixtures.plan_maker import BUCKET, PlanMaker, upstream_server

__all__ = ["object_store"]

_PATH = "/lab-a/files"
_MIB = 2**20


@pytest.fixture(scope="module")
def gateways() -> Iterator[RunningCluster]:
    """Two gateways, and no artifacts service."""
    running = RunningCluster("--gateways=2")
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest_asyncio.fixture
async def artifacts(gateways: RunningCluster, object_store: ObjectStore) -> AsyncIterator[PlanMaker]:
    told = tomllib.loads((gateways.data_dir / "cluster.toml").read_text())
    password = nats_passwords(gateways.data_dir)["artifacts"]
    maker = await PlanMaker.start(object_store, urls=[told["nats_url"]], user="artifacts", password=password)
    yield maker
    await maker.close()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


def _gateway(cluster: RunningCluster) -> psutil.Process:
    return psutil.Process(cluster.pids["gateway"][0])


def _host(cluster: RunningCluster) -> str:
    return urlsplit(cluster.url).netloc


class TestBothWays:
    async def test_two_gateways(
        self, gateways: RunningCluster, artifacts: PlanMaker, http: aiohttp.ClientSession
    ) -> None:
        """What one takes, with a length or without, the other has."""
        first, second = gateways.gateway_urls
        body = os.urandom(3 * _MIB)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 100_000):
                yield body[start : start + 100_000]

        for name, data in (("known", io.BytesIO(body)), ("unknown", pieces())):
            async with http.put(f"{first}{_PATH}/{name}", data=data) as put:
                assert (put.status, put.headers["etag"]) == (200, f'"{hashlib.md5(body).hexdigest()}"')
            async with http.get(f"{second}{_PATH}/{name}") as got:
                assert (await got.read(), got.headers["content-length"]) == (body, str(len(body)))
            async with http.head(f"{second}{_PATH}/{name}") as head:
                assert (head.status, head.headers["content-length"]) == (200, str(len(body)))
            async with http.get(f"{second}{_PATH}/{name}", headers={"Range": "bytes=1000000-2000000"}) as part:
                assert (part.status, await part.read()) == (206, body[1_000_000:2_000_001])

    async def test_many_at_once(
        self, gateways: RunningCluster, artifacts: PlanMaker, http: aiohttp.ClientSession
    ) -> None:
        bodies = {f"many-{i}": os.urandom(200_000 + i) for i in range(32)}

        async def there_and_back(name: str, body: bytes) -> bool:
            async with http.put(f"{gateways.url}{_PATH}/{name}", data=body) as put:
                assert put.status == 200
            async with http.get(f"{gateways.url}{_PATH}/{name}") as got:
                return await got.read() == body

        assert all(await asyncio.gather(*(there_and_back(*item) for item in bodies.items())))

    async def test_expects_continue(self, gateways: RunningCluster, artifacts: PlanMaker) -> None:
        async with raw_socket(gateways.url) as client:
            head = f"PUT {_PATH}/continued HTTP/1.1\r\nHost: {_host(gateways)}\r\nContent-Length: 5\r\n"
            await client.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert (await client.head()).startswith("HTTP/1.1 100")
            await client.send(b"hello")
            assert (await client.answer())[0] == 200
        assert artifacts.stored[-1].size == 5

    async def test_paths_as_they_are(self, gateways: RunningCluster, artifacts: PlanMaker) -> None:
        """Nothing on the way makes another path of one: what leads astray is for the artifacts service to refuse."""
        async with raw_socket(gateways.url) as client:
            for written, meant in (("/../../etc/passwd", "../../etc/passwd"), ("/a//..%2fb", "a//../b"), ("//x", "/x")):
                await client.send(f"HEAD {_PATH}{written} HTTP/1.1\r\nHost: {_host(gateways)}\r\n\r\n".encode())
                await client.head()
                assert artifacts.calls[-1].params["path"] == meant

    async def test_the_connection_lives_on(self, gateways: RunningCluster, artifacts: PlanMaker) -> None:
        """After an error, too; but where the rest of a body was not wanted."""
        async with raw_socket(gateways.url) as client:
            for _ in range(2):
                await client.send(f"GET {_PATH}/none HTTP/1.1\r\nHost: {_host(gateways)}\r\n\r\n".encode())
                assert (await client.answer())[0] == 404
            artifacts.max_bytes = 10
            head = f"PUT {_PATH}/none HTTP/1.1\r\nHost: {_host(gateways)}\r\nContent-Length: 100000000\r\n\r\n"
            await client.send(head.encode())
            assert (await client.answer())[0] == 413  # before any of it was sent
        assert artifacts.stored == []

    async def test_tokens_are_not_logged(
        self, gateways: RunningCluster, artifacts: PlanMaker, http: aiohttp.ClientSession
    ) -> None:
        token = gateways.user_token()
        for path in ("/lab-a/artifacts/a/files/none", "/lab-a/view/a/none"):
            async with http.get(f"{gateways.url}{path}?token={token}") as got:
                assert got.status == 404
        assert token not in gateways.log
        assert "X-Amz-Signature" not in gateways.log


class TestAborts:
    @pytest.mark.parametrize("framing", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
    async def test_client_leaves_an_upload(
        self, gateways: RunningCluster, artifacts: PlanMaker, object_store: ObjectStore, framing: str
    ) -> None:
        """Nothing is written down, and the store keeps nothing."""
        name = f"left-{framing[0]}"
        async with raw_socket(gateways.url) as client:
            head = f"PUT {_PATH}/{name} HTTP/1.1\r\nHost: {_host(gateways)}\r\n{framing}\r\n\r\n".encode()
            piece = os.urandom(500_000)
            await client.send(head + (piece if "Length" in framing else b"7a120\r\n" + piece + b"\r\n"))
            await _until(lambda: bool(artifacts.calls) and (self._is_busy(gateways, object_store) or "T" in framing))
            busy = _upstream_connections(gateways, object_store)
        await _until(lambda: _upstream_connections(gateways, object_store) < busy or "T" in framing)
        assert not (object_store.folder / "data" / BUCKET / "workspace_files" / name).exists()
        assert artifacts.stored == []

    @staticmethod
    def _is_busy(gateways: RunningCluster, store: ObjectStore) -> bool:
        return _upstream_connections(gateways, store) > 0

    async def test_store_is_told_of_it(self, gateways: RunningCluster, artifacts: PlanMaker) -> None:
        """What the client leaves unfinished ends there, too, before its length."""
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Content-Length: 5000000" in head
            received.set_result(await reader.read(-1))

        async with upstream_server(listen) as url:
            artifacts.rules["workspace_files"] = lambda call: Store(url, b"")
            async with raw_socket(gateways.url) as client:
                head = f"PUT {_PATH}/x HTTP/1.1\r\nHost: {_host(gateways)}\r\nContent-Length: 5000000\r\n\r\n"
                await client.send(head.encode() + bytes(500_000))
                await _until(lambda: bool(artifacts.calls))
            assert len(await asyncio.wait_for(received, 10)) <= 500_000
        assert artifacts.stored == []

    async def test_client_leaves_a_download(self, gateways: RunningCluster, artifacts: PlanMaker) -> None:
        """The store is asked for no more than it has sent."""
        sent, ended = 0, asyncio.Event()

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
            try:
                while True:
                    writer.write(bytes(100_000))
                    await writer.drain()
                    sent += 100_000
            finally:
                ended.set()

        async with upstream_server(endless) as url:
            artifacts.rules["workspace_files"] = lambda call: Fetch(url)
            async with raw_socket(gateways.url) as client:
                await client.send(f"GET {_PATH}/endless HTTP/1.1\r\nHost: {_host(gateways)}\r\n\r\n".encode())
                await client.head()
                assert await client.read()
            await asyncio.wait_for(ended.wait(), 10)

    async def test_client_does_not_read(self, gateways: RunningCluster, artifacts: PlanMaker) -> None:
        """Then the store is not read either: nothing piles up in between."""
        sent = 0

        async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
            while True:
                writer.write(bytes(100_000))
                await writer.drain()
                sent += 100_000

        process = _gateway(gateways)
        before = process.memory_info().rss
        async with upstream_server(endless) as url:
            artifacts.rules["workspace_files"] = lambda call: Fetch(url)
            async with raw_socket(gateways.url) as client:
                client.pause()
                await client.send(f"GET {_PATH}/endless HTTP/1.1\r\nHost: {_host(gateways)}\r\n\r\n".encode())
                stood = -1
                async with asyncio.timeout(20):
                    while sent == 0 or stood != sent:
                        stood = sent
                        await asyncio.sleep(0.5)
                assert sent < 50 * _MIB
                assert process.memory_info().rss - before < 20 * _MIB

    @pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
    async def test_store_cuts_a_body_short(
        self, gateways: RunningCluster, artifacts: PlanMaker, http: aiohttp.ClientSession, framing: bytes
    ) -> None:
        """It must not look like a whole one."""

        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            part = bytes(300_000)
            writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            writer.write(part if b"Length" in framing else b"493e0\r\n" + part + b"\r\n")
            await writer.drain()

        async with upstream_server(cut) as url:
            artifacts.rules["workspace_files"] = lambda call: Fetch(url)
            async with http.get(f"{gateways.url}{_PATH}/cut") as got:
                assert got.status == 200
                with pytest.raises(aiohttp.ClientError):
                    await got.read()
        assert "file_cut_short" in gateways.log

    async def test_store_fails_once(
        self, gateways: RunningCluster, artifacts: PlanMaker, http: aiohttp.ClientSession
    ) -> None:
        """A failure before the first byte is tried again; a second one is told without a word of the store."""
        answers = [b"", b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nbusy", b"cut"]

        async def flaky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
            answer = answers.pop(0) if answers else whole
            writer.write(whole[:-2] if answer == b"cut" else answer)
            if answer == whole:
                await reader.read()

        async with upstream_server(flaky) as url:
            artifacts.rules["workspace_files"] = lambda call: Fetch(url)
            async with http.get(f"{gateways.url}{_PATH}/flaky") as got:
                assert (got.status, got.headers["retry-after"]) == (503, "1")
                assert "secret" not in await got.text()
            async with http.get(f"{gateways.url}{_PATH}/flaky") as got:
                assert (got.status, await got.read()) == (200, b"hello")

    async def test_store_refuses_an_upload_early(
        self, gateways: RunningCluster, artifacts: PlanMaker, http: aiohttp.ClientSession
    ) -> None:
        """The client is told at once, not when it has sent everything."""

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            error = b"<Error><Code>SlowDown</Code><Resource>/secret-bucket/key</Resource></Error>"
            writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(error))
            writer.write(error)
            await writer.drain()
            await asyncio.sleep(0.5)

        async with upstream_server(refuse) as url:
            artifacts.rules["workspace_files"] = lambda call: Store(url, b"")
            for size in (1000, 30 * _MIB):
                async with http.put(f"{gateways.url}{_PATH}/refused", data=io.BytesIO(bytes(size))) as put:
                    assert put.status == 503
                    assert "secret" not in await put.text()
            async with raw_socket(gateways.url) as client:
                head = f"PUT {_PATH}/r HTTP/1.1\r\nHost: {_host(gateways)}\r\nContent-Length: 99000000\r\n\r\n"
                await client.send(head.encode() + bytes(_MIB))
                assert (await client.answer())[0] == 503
        assert artifacts.stored == []


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not holds():
            await asyncio.sleep(0.05)


def _upstream_connections(cluster: RunningCluster, store: ObjectStore) -> int:
    """Return how many connections the first gateway has to the store; idle ones stay for a few seconds."""
    port = urlsplit(store.url).port
    return sum(bool(c.raddr) and c.raddr.port == port for c in _gateway(cluster).net_connections())
