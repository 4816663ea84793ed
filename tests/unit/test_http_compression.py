from __future__ import annotations

import gzip
import json
import zlib

import brotli
import httpx
import pytest
import zstandard
from http_support import World

from hypha_common.errors import HyphaError, RequestTimeout
from hypha_gateway.http.request_body import BodyLimits, read_body

_ECHO = "/public/services/test-service/echo"
_TEXT = "a" * 5000
_DECODERS = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data, max_output_size=1 << 20),
}


async def _post(world: World, text: str, accept: str | None) -> tuple[httpx.Response, bytes]:
    headers = {} if accept is None else {"Accept-Encoding": accept}
    request = world.http.build_request("POST", _ECHO, json=[text], headers=headers)
    if accept is None:
        del request.headers["accept-encoding"]
    response = await world.http.send(request, stream=True)
    body = b"".join([piece async for piece in response.aiter_raw()])
    await response.aclose()
    return response, body


class TestAnswers:
    @pytest.mark.parametrize(
        ("accept", "coding"),
        [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("gzip, deflate, br", "br"), ("gzip;q=0, br;q=0.5", "br")],
    )
    async def test_compressed(self, world: World, accept: str, coding: str) -> None:
        response, body = await _post(world, _TEXT, accept)
        assert response.headers["content-encoding"] == coding
        assert int(response.headers["content-length"]) == len(body) < 1000
        assert "Accept-Encoding" in response.headers["vary"]
        assert json.loads(_DECODERS[coding](body)) == [[_TEXT], {}]

    @pytest.mark.parametrize("accept", [None, "", "identity", "gzip;q=0", "compress"])
    async def test_as_it_is(self, world: World, accept: str | None) -> None:
        response, body = await _post(world, _TEXT, accept)
        assert "content-encoding" not in response.headers
        assert "Accept-Encoding" in response.headers["vary"]  # caches have to tell it from the compressed one
        assert json.loads(body) == [[_TEXT], {}]

    async def test_small(self, world: World) -> None:
        """999 bytes go as they are, 1000 do not."""
        frame = len(json.dumps([["x"], {}], separators=(",", ":"))) - 1
        for size, coded in ((999, False), (1000, True)):
            response, _ = await _post(world, "x" * (size - frame), "gzip")
            assert ("content-encoding" in response.headers) is coded

    async def test_large(self, world: World) -> None:
        """Megabytes are compressed piece by piece, so that others get their turn."""
        text = "abc" * 1_000_000
        response, body = await _post(world, text, "gzip")
        assert response.headers["content-encoding"] == "gzip"
        assert json.loads(gzip.decompress(body)) == [[text], {}]

    async def test_not_for_apps(self, world: World) -> None:
        """What a client's web service answers goes as it is."""
        response = await world.http.get(f"/public/apps/pages/?{'x' * 2000}", headers={"Accept-Encoding": "gzip"})
        assert len(response.content) > 2000
        assert "content-encoding" not in response.headers

    async def test_not_for_events(self, world: World) -> None:
        response = await world.http.get("/public/services/test-service/gen?n=200", headers={"Accept-Encoding": "gzip"})
        assert response.headers["content-type"] == "text/event-stream"
        assert "content-encoding" not in response.headers

    async def test_not_for_binary(self, world: World) -> None:
        response = await world.http.post(
            _ECHO, content=b"\x91\xda\x13\x88" + b"a" * 5000, headers={"Content-Type": "application/msgpack"}
        )
        assert "content-encoding" not in response.headers


class TestRequests:
    @pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP"])
    async def test_inflated(self, world: World, coding: str) -> None:
        body = gzip.compress(b'{"x":') + gzip.compress(b"41}")
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        response = await world.http.post("/public/services/test-service/test", content=body, headers=headers)
        assert response.json() == 42

    @pytest.mark.parametrize(
        ("coding", "body", "status"),
        [
            ("gzip", b"{}", 400),
            ("gzip", gzip.compress(b'{"x":1}', mtime=0)[:-4], 400),
            ("gzip", gzip.compress(b'{"x":1}', mtime=0) + b"more", 400),
            ("gzip", zlib.compress(b'{"x":1}'), 400),
            ("br", b"{}", 415),
            ("gzip, gzip", b"{}", 415),
        ],
    )
    async def test_refused(self, world: World, coding: str, body: bytes, status: int) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        response = await world.http.post("/public/services/test-service/test", content=body, headers=headers)
        assert (response.status_code, response.json()["success"]) == (status, False)

    @pytest.mark.parametrize("world", [{"max_message_bytes": 100_000}], indirect=True)
    async def test_bomb(self, world: World) -> None:
        """What is small only while it is compressed is refused before it takes memory."""
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        for inflated, status in ((90_000, 200), (100_001, 413), (50_000_000, 413)):
            body = gzip.compress(b'"' + b"a" * (inflated - 2) + b'"')
            response = await world.http.post(_ECHO, content=body, headers=headers)
            assert response.status_code == status, inflated

    async def test_apps_get_what_was_sent(self, world: World) -> None:
        """An app is told of the encoding, so it gets the bytes that have it."""
        response = await world.http.post(
            "/public/apps/pages/", content=b"raw", headers={"Content-Encoding": "utf-8-of-old"}
        )
        assert (response.json()["body"], response.json()["headers"]["content-encoding"]) == ("raw", "utf-8-of-old")


class TestSlowBodies:
    @staticmethod
    async def _read(chunk: bytes, chunks: int, every_s: float, limits: BodyLimits) -> bytes:
        import asyncio

        left = chunks

        async def receive() -> dict[str, object]:
            nonlocal left
            await asyncio.sleep(every_s)
            left -= 1
            return {"type": "http.request", "body": chunk, "more_body": left > 0}

        return await read_body(receive, {}, limits)  # type: ignore[arg-type]

    async def test_drips(self) -> None:
        """A byte now and then does not keep a request alive."""
        with pytest.raises(RequestTimeout, match="too slowly") as refused:
            await self._read(b"x", 1000, 0.02, BodyLimits(1000, 0.1))
        assert refused.value.status == 408

    async def test_never_comes(self) -> None:
        with pytest.raises(HyphaError):
            await self._read(b"x", 1, 60, BodyLimits(1000, 0.05))

    async def test_long_but_steady(self) -> None:
        """Who sends enough may take longer than that."""
        chunk = bytes(2048)
        assert len(await self._read(chunk, 20, 0.01, BodyLimits(1_000_000, 0.1))) == 20 * 2048
