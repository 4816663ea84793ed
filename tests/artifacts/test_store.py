"""The S3 store behind everything: what it must do whichever program it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from hypha_artifacts.blobs import BlobStore
from hypha_common.errors import BadRequest, NotFound, Unavailable
from hypha_common.settings import Settings
from tests.fixtures.object_store import ObjectStore


@pytest.fixture
async def store(stack: Settings) -> AsyncIterator[BlobStore]:
    store = BlobStore(stack)
    await store.open()
    yield store
    await store.close()


async def test_what_is_written_is_read(store: BlobStore) -> None:
    """With odd names, whole and in pieces; a copy is another object."""
    key = f"artifacts/ws-a/one/{uuid4()}/täst dir/a+b&c%20d'.txt"
    written = await store.write(key, b"0123456789", content_type="text/plain")
    found = await store.head(key)
    assert found is not None
    assert (found.size, found.etag) == (10, written.etag)
    assert await store.read(key) == b"0123456789"
    assert await store.read(key, first=2, size=3) == b"234"
    await store.copy(key, key + ".copy")
    await store.delete([key, key + ".absent"])
    assert await store.head(key) is None
    with pytest.raises(NotFound):
        await store.read(key)
    assert await store.read(key + ".copy") == b"0123456789"


async def test_a_listing_goes_on_behind_its_pages(store: BlobStore) -> None:
    prefix = f"artifacts/ws-a/{uuid4()}/"
    for n in range(7):
        await store.write(f"{prefix}{n}/x", b"x" * n, content_type="text/plain")
    found = [(blob.key.removeprefix(prefix), blob.size) async for blob in store.list(prefix, page=3)]
    assert found == [(f"{n}/x", n) for n in range(7)]


async def test_addresses_do_one_thing(store: BlobStore) -> None:
    """PUT by one, GET by the other, in odd places; a changed address is refused."""
    key = f"artifacts/ws-a/one/{uuid4()}/sub dir/ü+%?a=b#c.bin"
    async with httpx.AsyncClient() as http:
        assert (await http.put(store.address("PUT", key), content=b"bytes")).status_code == 200
        assert (await http.get(store.address("GET", key))).content == b"bytes"
        assert (await http.get(store.address("PUT", key))).status_code in (400, 403)
        assert (await http.get(store.address("GET", key).replace("%2B", "x"))).status_code in (400, 403)


async def test_parts_are_joined(store: BlobStore) -> None:
    key = f"artifacts/ws-a/one/{uuid4()}/large"
    upload = await store.begin_upload(key, content_type="image/png")
    parts = []
    async with httpx.AsyncClient() as http:
        for number, data in ((1, b"a" * 5 * 2**20), (2, b"b")):
            url = store.address("PUT", key, query=[("partNumber", str(number)), ("uploadId", upload)])
            parts.append((number, (await http.put(url, content=data)).headers["etag"]))
    with pytest.raises(BadRequest):
        await store.complete_upload(key, upload, [(1, '"0123"')])
    upload = await store.begin_upload(key, content_type="image/png")
    await store.abort_upload(key, upload)
    await store.abort_upload(key, upload)
    with pytest.raises(NotFound):
        await store.complete_upload(key, upload, parts)
    assert await store.head(key) is None


async def test_a_store_that_is_away_is_said_to_be(stack: Settings, object_store: ObjectStore) -> None:
    store = BlobStore(stack)
    await store.open()
    object_store.kill()
    try:
        with pytest.raises(Unavailable):
            await store.ping()
    finally:
        object_store.start()
    await store.ping()
    await store.close()
