"""Where gateways fetch bytes that are made for them: it answers tickets of the service, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pytest

from hypha_artifacts.data_port import Body, DataPort, Tickets
from hypha_common.errors import ConfigurationError, NotFound, PermissionDenied, Unavailable
from hypha_common.settings import Settings
from tests.fixtures.auth import SECRET

_CHUNK = bytes(100_000)


def settings(**changes: object) -> Settings:
    return Settings.load({"jwt_secret": SECRET, "drain_window": 0.5, **changes}, environ={})


class Maker:
    """Makes bodies for tests: so many chunks, of a length that was promised; notes what becomes of them."""

    def __init__(self) -> None:
        self.made = 0
        self.sent = self.closed = False
        self.go_on = asyncio.Event()

    async def make(self, order: dict[str, int]) -> Body:
        if not order["chunks"]:
            raise NotFound("There is nothing")
        return Body(order["length"], self._chunks(order["chunks"]), "text/plain", self._note)

    def _note(self) -> None:
        self.sent = True

    async def _chunks(self, count: int) -> AsyncGenerator[bytes, None]:
        try:
            for n in range(count):
                if n == 1:
                    await self.go_on.wait()
                if n == 100:
                    raise Unavailable("The store has gone")
                self.made += 1
                yield _CHUNK
        finally:
            self.closed = True


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
async def port(maker: Maker) -> AsyncIterator[DataPort]:
    port = DataPort(settings())
    port.add("test", maker.make)
    await port.start()
    yield port
    await port.close()


def order(chunks: int, length: int | None = None) -> dict[str, int]:
    return {"chunks": chunks, "length": chunks * len(_CHUNK) if length is None else length}


async def test_a_ticket_gets_what_it_orders(port: DataPort, maker: Maker) -> None:
    maker.go_on.set()
    async with httpx.AsyncClient() as http:
        address = port.address("test", order(3))
        assert int((await http.head(address)).headers["content-length"]) == 300_000
        assert not maker.sent
        response = await http.get(address)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain")
    assert response.content == _CHUNK * 3
    assert maker.sent


async def test_nothing_else_gets_anything(port: DataPort) -> None:
    """Neither without a ticket, nor with one that was changed, or is for something else."""
    address = port.address("test", order(1))
    base, ticket = address.split("/test?ticket=")
    changed = ticket[:-2] + ("A" if ticket[-2] != "A" else "B") + ticket[-1]
    async with httpx.AsyncClient() as http:
        for path in (
            "/test",
            "/test?ticket=",
            "/test?ticket=ü",
            f"/test?ticket={changed}",
            f"/test?ticket={ticket[:20]}",
        ):
            response = await http.get(base + path)
            assert (response.status_code, response.json()) == (403, {"detail": "Invalid ticket"}), path
        assert (await http.get(f"{base}/other?ticket={ticket}")).status_code == 404
        assert (await http.post(address)).status_code == 404
        assert (await http.get(port.address("test", order(0)))).json() == {"detail": "There is nothing"}


def test_tickets_age_and_are_of_one_cluster() -> None:
    now = 1000.0
    tickets = Tickets(settings(), now=lambda: now)
    ticket = tickets.seal("zip", {"a": [1, None, "ü" * 30_000]})
    assert tickets.open("zip", ticket) == {"a": [1, None, "ü" * 30_000]}
    with pytest.raises(PermissionDenied):
        tickets.open("member", ticket)
    with pytest.raises(PermissionDenied):
        Tickets(settings(jwt_secret="x" * 40), now=lambda: now).open("zip", ticket)
    now += 61
    with pytest.raises(PermissionDenied):
        tickets.open("zip", ticket)


@pytest.mark.parametrize(("chunks", "length"), [(2, 300_000), (101, 10_100_000)])
async def test_what_is_not_whole_is_cut(port: DataPort, maker: Maker, chunks: int, length: int) -> None:
    """Whether less was made than promised, or making it failed."""
    maker.go_on.set()
    async with httpx.AsyncClient() as http:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.get(port.address("test", order(chunks, length)))
    assert maker.closed and not maker.sent


async def test_a_reader_that_leaves_ends_the_making(port: DataPort, maker: Maker) -> None:
    async with httpx.AsyncClient() as http, http.stream("GET", port.address("test", order(50))) as response:
        await anext(response.aiter_raw(10))
    async with asyncio.timeout(5):
        while not maker.closed:
            await asyncio.sleep(0.01)
    assert maker.made == 1 and not maker.sent


async def test_a_reader_that_sleeps_stops_the_making(port: DataPort, maker: Maker) -> None:
    """Only what buffers hold is made ahead of it."""
    maker.go_on.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port._url.rpartition(":")[2]), limit=2**10)
    path = port.address("test", order(99)).removeprefix(port._url)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readline()
    made = -1
    async with asyncio.timeout(5):
        while made != maker.made:
            made = maker.made
            await asyncio.sleep(0.2)
    assert 0 < maker.made < 99
    writer.close()


async def test_stopping_waits_for_streams_and_then_cuts_them(maker: Maker) -> None:
    port = DataPort(settings())
    port.add("test", maker.make)
    await port.start()
    async with httpx.AsyncClient() as http, http.stream("GET", port.address("test", order(3))) as response:
        body = response.aiter_raw(10)
        await anext(body)
        closing = asyncio.create_task(port.close())
        await asyncio.sleep(0.05)
        maker.go_on.set()
        assert sum([len(piece) async for piece in body]) == 300_000 - 10
        await closing
    assert maker.sent
    maker.go_on.clear()
    port = DataPort(settings())
    port.add("test", maker.make)
    await port.start()
    async with httpx.AsyncClient() as http, http.stream("GET", port.address("test", order(3))) as response:
        async with asyncio.timeout(5):
            await port.close()
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await response.aread()


async def test_only_so_many_at_once(port: DataPort, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypha_artifacts.data_port.server._MAX_STREAMS", 1)
    async with httpx.AsyncClient() as http, http.stream("GET", port.address("test", order(3))):
        refused = await http.get(port.address("test", order(3)))
    assert refused.status_code == 503
    assert "Too many archives" in refused.json()["detail"]


async def test_the_address_may_be_given() -> None:
    port = DataPort(settings(artifacts_url="http://files.internal:8080/"))
    await port.start()
    assert port.address("zip", {}).startswith("http://files.internal:8080/zip?ticket=")
    await port.close()


async def test_an_address_that_nobody_can_use_is_told(port: DataPort) -> None:
    """One that is taken, and one that means every network without saying which name gateways have for it."""
    taken = DataPort(settings(artifacts_port=int(port.address("test", {}).split(":")[2].split("/")[0])))
    with pytest.raises(ConfigurationError, match=r"Port \d+ at 127.0.0.1 cannot be used"):
        await taken.start()
    await taken.close()
    with pytest.raises(ConfigurationError, match="artifacts_url must say"):
        await DataPort(settings(artifacts_host="0.0.0.0")).start()
