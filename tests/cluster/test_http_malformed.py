"""
What no HTTP library sends: broken framing, two ways to say a length, odd targets, bodies that never end. None reaches a
function twice or in somebody else's name, and the server stays as it was.
"""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.cluster.raw_socket import raw_socket
from tests.cluster.running_cluster import RunningCluster

pytestmark = pytest.mark.usefixtures("unharmed")

_HIDDEN = b"GET /static/hypha-rpc-version.txt HTTP/1.1\r\nHost: hidden\r\n\r\n"
_POST = b"POST /public/services/nothing/f HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(_HIDDEN)
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


def _chunked(body: bytes, *, coding: bytes = _CHUNKED, more: bytes = b"") -> bytes:
    return _POST + coding + more + b"\r\n" + body


# (what is sent, statuses that are right); an empty set: the connection may also just end.
_FRAMING = {
    "length and chunked": (_chunked(b"0\r\n\r\n" + _HIDDEN, more=_LENGTH), {400}),
    "chunked and length": (_chunked(b"0\r\n\r\n" + _HIDDEN, coding=_LENGTH, more=_CHUNKED), {400}),
    "two codings": (_chunked(b"0\r\n\r\n" + _HIDDEN, coding=b"Transfer-Encoding: gzip, chunked\r\n"), {400, 501}),
    "chunked twice": (_chunked(b"0\r\n\r\n" + _HIDDEN, coding=_CHUNKED * 2), {400, 501}),
    "unknown coding": (_chunked(_HIDDEN, coding=b"Transfer-Encoding: xchunked\r\n"), {400, 501}),
    "coding after a vertical tab": (_chunked(_HIDDEN, coding=b"Transfer-Encoding:\x0bchunked\r\n"), {400, 501}),
    "two lengths": (_chunked(_HIDDEN, coding=_LENGTH, more=b"Content-Length: 0\r\n"), {400}),
    "list of lengths": (_chunked(_HIDDEN, coding=b"Content-Length: 0, %d\r\n" % len(_HIDDEN)), {400}),
    "signed length": (_chunked(_HIDDEN, coding=b"Content-Length: +%d\r\n" % len(_HIDDEN)), {400}),
    "hexadecimal length": (_chunked(_HIDDEN, coding=b"Content-Length: 0x10\r\n"), {400}),
    "length of many digits": (_chunked(_HIDDEN, coding=b"Content-Length: " + b"9" * 30 + b"\r\n"), {400, 413}),
    "continued header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tContent-Length: 5\r\n\r\n" , {200, 400}),
    "negative chunk": (_chunked(b"-1\r\n\r\n"), {400}),
    "huge chunk": (_chunked(b"F" * 21 + b"\r\nx"), {400}),
    "chunk longer than it says": (_chunked(b"1\r\nabc\r\n0\r\n\r\n"), {400}),
    "long chunk extension": (_chunked(b"1;" + b"a" * 100_000 + b"\r\nx\r\n0\r\n\r\n"), {400}),
    "no name": (b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", {400}),
    "carriage return in a header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n", {400}),
}  # fmt: skip
_TARGETS = {
    "bad percent-encoding": (b"/public/services/%zz/%", {400, 404}),
    "NUL": (b"/public%00/services/x/f", {400}),
    "absolute": (b"http://other.example/health/liveness", {200, 400, 404}),
    "asterisk": (b"*", {400, 404}),
    "no slash": (b"health", {400, 404}),
    "fragment": (b"/health/liveness#a", {200, 400, 404}),
    "backslashes": (b"\\\\other.example\\x", {400, 404}),
    "60,000 characters": (b"/" + b"a" * 60_000, {404, 414}),
    "bytes beyond ASCII": (b"/\xff\xfe", {400, 404}),
    "many slashes": (b"/" * 5000, {400, 404}),
}


def _statuses(answer: bytes) -> list[int]:
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]


async def _answer(cluster: RunningCluster, request: bytes) -> bytes:
    """Return all that comes back; a connection that stays open after a good answer is left after a while."""
    async with raw_socket(cluster.url) as socket:
        await socket.send(request)
        data = b""
        try:
            async with asyncio.timeout(1):
                while piece := await socket.read():
                    data += piece
        except TimeoutError:
            assert data, "neither answered nor closed"
        return data


@pytest.mark.parametrize("name", _FRAMING)
async def test_framing(cluster: RunningCluster, name: str) -> None:
    """Refused, and what follows on the connection is no request."""
    request, right = _FRAMING[name]
    answer = await _answer(cluster, request)
    statuses = _statuses(answer)
    assert len(statuses) == 1 and set(statuses) <= right, answer[:500]
    assert b"0.21." not in answer  # what the hidden request asks for


@pytest.mark.parametrize("name", _TARGETS)
async def test_targets(cluster: RunningCluster, name: str) -> None:
    target, right = _TARGETS[name]
    answer = await _answer(cluster, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert set(_statuses(answer)) <= right and _statuses(answer), answer[:500]
    assert b"Traceback" not in answer


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (b"GET /health/liveness HTTP/1.0", {200}),
        (b"GET /health/liveness", {400}),
        (b"GET /health/liveness HTTP/9.9", {200, 400, 505}),
        (b"GET  /health/liveness  HTTP/1.1", {400}),
        (b"CONNECT other.example:443 HTTP/1.1", {400, 404, 405}),
        (b"OPTIONS * HTTP/1.1", {400, 404, 405}),
        (b"FOO /health/liveness HTTP/1.1", {400, 405, 501}),
        (b"get /health/liveness HTTP/1.1", {200, 400, 405, 501}),
        (b"G\x00T /health/liveness HTTP/1.1", {400}),
    ],
)
async def test_request_lines(cluster: RunningCluster, line: bytes, right: set[int]) -> None:
    answer = await _answer(cluster, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert set(_statuses(answer)) <= right and _statuses(answer), answer[:500]


async def test_bodies_that_drip(limited_cluster: RunningCluster) -> None:
    """A byte now and then, announced or in chunks, does not hold a request for ever; others are served meanwhile."""
    fields = b"X-Forwarded-For: 203.0.113.77\r\n"
    bodies = {
        b"Content-Length: 100000\r\n": b"x",
        _CHUNKED: b"1\r\nx\r\n",
        b"Content-Length: 99999\r\n": b"",  # never a byte
    }

    async def drip(framing: bytes, piece: bytes) -> tuple[float, bytes]:
        began = time.monotonic()
        async with raw_socket(limited_cluster.url) as socket:
            await socket.send(_POST + fields + framing + b"\r\n")
            end = asyncio.create_task(socket.rest(15))
            while not end.done():
                await socket.send(piece)
                await asyncio.wait({end}, timeout=0.1)
            return time.monotonic() - began, await end

    for waited, answer in await asyncio.gather(*(drip(*body) for body in bodies.items())):
        assert _statuses(answer) == [408], answer
        assert b"too slowly" in answer
        assert 0.9 < waited < 8


async def test_compressed_all_the_way(cluster: RunningCluster) -> None:
    """A page reaches a client that takes any coding, as it is and compressed, over a real connection."""
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        plain = await http.get("/", headers={"Accept-Encoding": "identity"})
        for coding in ("gzip", "br", "zstd"):
            coded = await http.get("/", headers={"Accept-Encoding": coding})
            assert coded.headers["content-encoding"] == coding
            assert coded.text == plain.text
            assert int(coded.headers["content-length"]) < int(plain.headers["content-length"])
