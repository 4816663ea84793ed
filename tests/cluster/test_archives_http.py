"""Archives and sites of artifacts at a whole cluster, as curl or a browser asks (contract 02 §3.3 to §3.5)."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypha_rpc import connect_to_server

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.errors_told import told
from tests.unit.test_zip_index import packed
from tests.unit.test_zip_writer import archive

LARGE = os.urandom(2**20) * 20
FILES = {"readme.md": b"# Read me\n", "data/large.bin": LARGE, "data/ü/empty": b"", "inner.zip": packed({"a/b": b"b"})}


class Owner:
    """Somebody with a workspace, an HTTP client, and the artifact manager."""

    def __init__(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        name = f"user-{new_id(8).lower()}"
        self.workspace = f"ws-user-{name}"
        self.token = cluster.user_token(name)
        self.http = http
        self.urls = cluster.gateway_urls
        self.manager: Any = None

    async def publish(self, alias: str, files: dict[str, bytes], **fields: Any) -> None:
        """Create an artifact with files and commit it."""
        fields.setdefault("manifest", {"name": alias})
        await self.manager.create(alias=alias, stage=True, **fields)
        for path, data in files.items():
            address = await self.manager.put_file(alias, path)
            (await self.http.put(address, content=data)).raise_for_status()
        await self.manager.commit(alias)

    async def get(self, path: str, *, token: bool = True, gateway: int = -1, **more: Any) -> httpx.Response:
        headers = {**({"Authorization": f"Bearer {self.token}"} if token else {}), **more.pop("headers", {})}
        return await self.http.get(f"{self.urls[gateway]}/{self.workspace}/{path}", headers=headers, **more)


@pytest_asyncio.fixture
async def owner(two_gateways: RunningCluster) -> AsyncIterator[Owner]:
    async with httpx.AsyncClient(timeout=60) as http:
        owner = Owner(two_gateways, http)
        async with connect_to_server({"server_url": two_gateways.url, "token": owner.token}) as server:
            owner.manager = await server.get_service("public/artifact-manager")
            yield owner


async def test_an_archive_is_exact(owner: Owner) -> None:
    """Whole, not compressed on its way, with the length told; downloads are counted once it is there."""
    await owner.publish("with files", FILES, config={"download_weights": {"data/large.bin": 3}})
    response = await owner.get("artifacts/with files/create-zip-file", headers={"Accept-Encoding": "gzip, br"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-disposition"] == 'attachment; filename="with files.zip"'
    assert "content-encoding" not in response.headers
    assert int(response.headers["content-length"]) == len(response.content)
    with zipfile.ZipFile(io.BytesIO(response.content)) as zipped:
        assert zipped.testzip() is None
        assert {name: zipped.read(name) for name in zipped.namelist()} == FILES
    async with asyncio.timeout(5):  # its gateway says so once all of it is written
        while (await owner.manager.read("with files", silent=True))["download_count"] == 0:
            await asyncio.sleep(0.05)
    assert (await owner.manager.read("with files", silent=True))["download_count"] == 3
    head = await owner.http.head(response.url, headers=response.request.headers)
    assert (head.status_code, head.headers["content-length"]) == (200, response.headers["content-length"])
    some = await owner.get("artifacts/with files/create-zip-file", params={"file": ["readme.md", "data/ü/empty"]})
    assert zipfile.ZipFile(io.BytesIO(some.content)).namelist() == ["data/ü/empty", "readme.md"]
    missing = await owner.get("artifacts/with files/create-zip-file", params={"file": "nope"})
    assert (missing.status_code, told(missing)) == (404, {"detail": "File 'nope' does not exist in the artifact."})
    refused = await owner.get("artifacts/with files/create-zip-file", token=False)
    assert (refused.status_code, told(refused)) == (403, {"detail": "Permission denied"})
    assert (await owner.get("artifacts/nope/create-zip-file")).status_code == 404


async def test_looking_into_archives(owner: Owner) -> None:
    """Also one of 70,000 members with fields of 8 bytes; errors in the form of this route."""
    many = archive([(f"folder{n % 7}/{n}", str(n).encode(), 0) for n in range(70_000)])
    await owner.publish("zips", {"inner.zip": FILES["inner.zip"], "many.zip": many, "no.zip": b"no archive"})
    listed = await owner.get("artifacts/zips/zip-files/inner.zip?path=a/")
    assert [(entry["type"], entry["name"], entry["size"]) for entry in listed.json()] == [("file", "b", 1)]
    for path in ("inner.zip/~/a/b", "inner.zip?path=a/b"):
        response = await owner.get(f"artifacts/zips/zip-files/{path}")
        assert (response.content, response.headers["content-length"]) == (b"b", "1")
        assert response.headers["content-disposition"] == 'attachment; filename="b"'
    for gateway in (0, 1):
        names = [
            entry["name"] for entry in (await owner.get("artifacts/zips/zip-files/many.zip", gateway=gateway)).json()
        ]
        assert names == [f"folder{n}" for n in range(7)]
        assert len((await owner.get("artifacts/zips/zip-files/many.zip/~/folder3/", gateway=gateway)).json()) == 10_000
        assert (await owner.get("artifacts/zips/zip-files/many.zip/~/folder3/66643", gateway=gateway)).text == "66643"
    for path, status, detail in (
        ("nope.zip", 404, "ZIP file not found: nope.zip"),
        ("inner.zip/~/nope", 404, "File not found inside ZIP: nope"),
        ("no.zip", 500, "Invalid ZIP file: it has no end of central directory record"),
    ):
        response = await owner.get(f"artifacts/zips/zip-files/{path}")
        assert (response.status_code, told(response)) == (status, {"success": False, "detail": detail})
    assert (await owner.get("artifacts/zips/zip-files/inner.zip", token=False)).status_code == 403


async def test_tokens_of_single_files_open_neither(owner: Owner) -> None:
    """They are for files alone, however they are sent."""
    await owner.publish("scoped", FILES, type="collection")
    async with connect_to_server({"server_url": owner.urls[0], "token": owner.token}) as server:
        scope = f"get_file:{owner.workspace}/scoped:*"
        token = await server.generate_token({"permission": "read", "extra_scopes": [scope]})
    for path in ("artifacts/scoped/create-zip-file", "artifacts/scoped/zip-files/inner.zip", "view/scoped/"):
        for sent in ({"params": {"token": token}}, {"headers": {"Authorization": f"Bearer {token}"}}):
            assert (await owner.get(path, token=False, **sent)).status_code in (401, 403), path
        assert (await owner.get(path, token=False, params={"token": owner.token})).status_code == 200, path


async def test_a_site(owner: Owner) -> None:
    """Pages, templates, ranges; what may run scripts is in a sandbox of its own."""
    files = {
        "site/index.html": b"<link rel=stylesheet href=style.css><h1>Home</h1>",
        "site/style.css": b"h1 { color: green }",
        "site/about/index.html": b"<h1>{{ artifact.manifest.name }} for {{ user.id }}</h1>{{ view_base_url }}",
        "site/bomb.html": b"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "site/escape.html": b"{{ cycler.__init__.__globals__.os.environ }}",
    }
    view = {"root_directory": "site", "templates": ["about/index.html", "bomb.html", "escape.html"]}
    config = {"permissions": {"*": "r"}, "view_config": {**view, "headers": {"X-Site": "mine", "Set-Cookie": "a=b"}}}
    await owner.publish("site", files, config=config, manifest={"name": "<Site>"})
    home = await owner.get("view/site/", token=False)
    assert (home.status_code, home.text) == (200, files["site/index.html"].decode())
    assert home.headers["content-security-policy"].startswith("sandbox ")
    assert home.headers["x-site"] == "mine" and "set-cookie" not in home.headers
    assert (await owner.get("view/site", token=False)).text == home.text
    for browser_path, location in (("view/site", "./site/"), ("view/site/about", "./about/")):
        led = await owner.get(browser_path, token=False, headers={"Accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (307, location)
    about = await owner.get("view/site/about/")
    user = owner.workspace.removeprefix("ws-user-")
    url = f"{owner.urls[-1]}/{owner.workspace}/view/site"
    assert about.text == f"<h1>&lt;Site&gt; for {user}</h1>{url}"
    style = await owner.get("view/site/style.css", headers={"Range": "bytes=0-1"})
    assert (style.status_code, style.text, style.headers["content-range"]) == (206, "h1", "bytes 0-1/19")
    for path, status, detail in (
        ("nope", 404, "File not found: nope"),
        ("bomb.html", 500, "Template rendering failed: it takes too long, or needs too much memory"),
        ("escape.html", 500, "Template rendering failed: access to attribute '__init__' of 'type' object is unsafe."),
        ("%2e%2e/%2e%2e/x", 400, None),
    ):
        response = await owner.get(f"view/site/{path}", token=False)
        assert response.status_code == status, response.text
        assert detail is None or told(response) == {"detail": detail}
    await owner.manager.edit("site", config={"view_config": "disabled"})
    gone = await owner.get("view/site/")
    assert (gone.status_code, told(gone)) == (404, {"detail": "View access is disabled for this artifact"})


async def test_the_page_of_a_collection(owner: Owner) -> None:
    await owner.manager.create(
        alias="zoo", type="collection", manifest={"name": "Zoo"}, config={"permissions": {"*": "r"}}
    )
    await owner.manager.create(alias="cat", parent_id="zoo", manifest={"name": "Cat & <dog>"})
    response = await owner.get("view/zoo", token=False)
    assert response.status_code == 200, response.text
    assert "Cat &amp; &lt;dog&gt;" in response.text and "1–1 of 1" in response.text
    assert told(await owner.get("view/cat")) == {"detail": "This artifact type does not support view mode"}
    assert told(await owner.get("view/nope")) == {"detail": "Artifact `nope` not found"}


@pytest.mark.slow
async def test_a_member_of_more_than_4_gib(owner: Owner, tmp_path: Path) -> None:
    """Put, packed and unpacked again: its length was told, and every byte is there."""
    pieces, crc = 4097, 0
    await owner.manager.create(alias="large", manifest={"name": "large"}, stage=True)

    async def body() -> AsyncIterator[bytes]:
        nonlocal crc
        for _ in range(pieces):
            crc = zlib.crc32(LARGE[: 2**20], crc)
            yield LARGE[: 2**20]

    address = await owner.manager.put_file("large", "large.bin")
    headers = {"Content-Length": str(pieces * 2**20)}
    (await owner.http.put(address, content=body(), headers=headers)).raise_for_status()
    await owner.manager.commit("large")
    url, saved = f"{owner.urls[-1]}/{owner.workspace}/artifacts/large/create-zip-file", tmp_path / "large.zip"
    async with owner.http.stream("GET", url, headers={"Authorization": f"Bearer {owner.token}"}) as response:
        with saved.open("wb") as out:
            async for piece in response.aiter_raw():
                out.write(piece)
    assert saved.stat().st_size == int(response.headers["content-length"])
    with zipfile.ZipFile(saved) as zipped:
        (info,) = zipped.infolist()
        assert (info.file_size, info.CRC) == (pieces * 2**20, crc)
        assert zipped.testzip() is None
    saved.unlink()
