"""The store of the embedded cluster, run as the cluster runs it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import httpx
import psutil
import pytest

from hypha.server.child import Child
from hypha.server.data_directory import DataDirectory
from hypha.server.rclone_store import RcloneStore
from hypha_artifacts.blobs.sigv4 import Credentials, presign

MAX_GROWTH_BYTES = 64 * 2**20
PART = bytes(32 * 2**20)
KEY, SECRET = "some-user", 'some "quoted" pass\'word'


class Running:
    """A store that runs, and an HTTP client."""

    def __init__(self, store: RcloneStore, child: Child, http: httpx.AsyncClient) -> None:
        self.store = store
        self.child = child
        self.http = http

    @property
    def resident(self) -> int:
        return int(psutil.Process(self.child.pid).memory_info().rss)

    async def send(self, method: str, key: str, data: bytes = b"", **query: str) -> httpx.Response:
        credentials = Credentials(KEY, SECRET, "EU")
        address = presign(
            method, f"{self.store.url}/bucket/{key}", credentials, expires_s=60, now=time.time(), query=query.items()
        )
        answer = await self.http.request(method, address, content=data or None)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    data = DataDirectory(tmp_path / "d")
    data.open()
    store = RcloneStore(data, tmp_path / "files", access_key_id=KEY, secret_access_key=SECRET)
    store.prepare()
    (tmp_path / "files" / "bucket").mkdir()
    child = Child(store.program())
    await child.start()
    while not await store.ready(child.pid):
        await asyncio.sleep(0.02)
    child.settled()
    async with httpx.AsyncClient(timeout=60) as http:
        yield Running(store, child, http)
    await child.stop()
    data.close()


async def test_parts_that_come_at_the_same_time_cost_no_memory(running: Running) -> None:
    """By default rclone keeps those of which the turn has not come, up to 256 MiB."""
    await running.send("PUT", "first", b"x")
    before = running.resident
    begun = await running.send("POST", "large", uploads="")
    found = re.search("<UploadId>(.+?)</UploadId>", begun.text)
    assert found is not None
    upload_id = found[1]

    async def put(number: int) -> str:
        answer = await running.send("PUT", "large", PART, partNumber=str(number), uploadId=upload_id)
        return answer.headers["etag"]

    putting = asyncio.gather(*(put(number) for number in range(1, 7)))
    peak = before
    while not putting.done():
        await asyncio.sleep(0.01)
        peak = max(peak, running.resident)
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{quoteattr(etag)[1:-1]}</ETag></Part>"
        for number, etag in enumerate(putting.result(), 1)
    )
    whole = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    await running.send("POST", "large", whole, uploadId=upload_id)
    assert peak - before < MAX_GROWTH_BYTES
    assert int((await running.send("HEAD", "large")).headers["content-length"]) == 6 * len(PART)


async def test_sums_are_kept(running: Running, tmp_path: Path) -> None:
    """A plain file below the folder, with its MD5 as ETag, which costs reading it once, not at every request."""
    content = b"content" * 1000
    put = await running.send("PUT", "folder/a.txt", content)
    etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    file = tmp_path / "files" / "bucket" / "folder" / "a.txt"
    assert file.read_bytes() == content
    assert put.headers["etag"] == etag
    # The same size and time: only somebody who reads the file would notice.
    times = file.stat()
    with file.open("r+b") as changed:
        changed.write(b"CONTENT")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (await running.send("HEAD", "folder/a.txt")).headers["etag"] == etag


async def test_started_again_beside_one_that_still_stops(running: Running, tmp_path: Path) -> None:
    """After a kill of the supervisor the old store may live a moment longer: both share the sums for that time."""
    await running.send("PUT", "a", b"1")
    data = DataDirectory(tmp_path / "d")
    second = RcloneStore(data, tmp_path / "files", access_key_id=KEY, secret_access_key=SECRET)
    second.prepare()
    child = Child(second.program())
    await child.start()
    while not await second.ready(child.pid):
        await asyncio.sleep(0.02)
    child.settled()
    other = Running(second, child, running.http)
    for number in range(3):
        await other.send("PUT", f"b{number}", b"2")
        await running.send("PUT", f"c{number}", b"3")
    assert (await other.send("GET", "a")).content == b"1"
    await child.stop()
