"""
"Serving Static Files": folders of one's own next to the hub, as the document starts it but for address and data.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.errors_told import told

_ONE = "python3 -m hypha.server --host=0.0.0.0 --port=9527 --static-mounts /tools:./webtools/"
_TWO = "python3 -m hypha.server --host=0.0.0.0 --port=9527 --static-mounts /tools:./webtools/ /images:./images/"
_INDEX = "<!doctype html><title>Tools</title><script src=tool.js></script>"
_TOOL = "export const tool = 1;\n" * 500


def _mounts(command: str) -> list[str]:
    """The words of the document's command that are about folders."""
    words = shlex.split(command)
    return words[words.index("--static-mounts") :]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "webtools/deep/.hidden").mkdir(parents=True)
    (folder / "webtools/index.html").write_text(_INDEX)
    (folder / "webtools/tool.js").write_text(_TOOL)
    (folder / "webtools/deep/index.html").write_text("deep")
    (folder / "webtools/deep/.hidden/file").write_text("found")
    (folder / "webtools/with blank & ü.txt").write_text("odd name")
    (folder / "webtools/empty.bin").write_bytes(b"")
    (folder / "images").mkdir()
    (folder / "images/pixel.png").write_bytes(b"\x89PNG" + bytes(5000))
    (folder / "secret.txt").write_text("secret")
    (folder / "webtools/out.txt").symlink_to(folder / "secret.txt")
    (folder / "webtools/up").symlink_to(folder)
    (folder / "webtools/in.js").symlink_to(folder / "webtools/tool.js")
    os.mkfifo(folder / "webtools/pipe")
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[RunningCluster]:
    running = RunningCluster(*_mounts(_TWO), cwd=folder)
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest.fixture
async def http(site: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=site.url, timeout=10) as client:
        yield client


def _check(folder: Path, *flags: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")}
    return subprocess.run(
        [sys.executable, "-m", "hypha.server", *flags],
        cwd=folder,
        env={**inherited, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("command", [_ONE, _TWO])
def test_the_commands_of_the_document(folder: Path, command: str) -> None:
    """Word for word; only instead of starting, the server tells what it would start with."""
    done = _check(folder, "check-config", *shlex.split(command)[3:])
    assert done.returncode == 0, done.stderr
    assert f"static_mounts = {' '.join(_mounts(command)[1:])}  (flag --static-mounts)" in done.stdout


async def test_files(http: httpx.AsyncClient) -> None:
    """The document: "you can access files from these directories …/tools and …/images"."""
    for path in ("/tools", "/tools/", "/tools/index.html"):
        response = await http.get(path)
        assert (response.status_code, response.text) == (200, _INDEX), path
        assert response.headers["content-type"].startswith("text/html")
    tool = await http.get("/tools/tool.js")
    assert (tool.status_code, tool.text) == (200, _TOOL)
    assert "javascript" in tool.headers["content-type"]
    image = await http.get("/images/pixel.png")
    assert (image.status_code, len(image.content), image.headers["content-type"]) == (200, 5004, "image/png")
    assert (await http.get("/images")).status_code == 404
    assert (await http.get("/tools/in.js")).text == _TOOL
    assert (await http.get("/tools/deep/.hidden/file")).text == "found"
    assert (await http.get("/tools/with%20blank%20&%20%C3%BC.txt")).text == "odd name"
    assert (await http.get("/tools/empty.bin")).content == b""
    assert (await http.get("/public/services/")).status_code == 200


async def test_browsers_find_what_a_page_links_to(http: httpx.AsyncClient) -> None:
    """The page's links are relative to its folder, so a browser has to be there."""
    response = await http.get("/tools?a=1", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (response.status_code, response.headers["location"]) == (307, "/tools/?a=1")


async def test_caches_and_parts(http: httpx.AsyncClient) -> None:
    plain = await http.get("/tools/tool.js", headers={"Accept-Encoding": "identity"})
    etag = plain.headers["etag"]
    assert (await http.get("/tools/tool.js", headers={"If-None-Match": etag})).status_code == 304
    since = {"If-Modified-Since": plain.headers["last-modified"]}
    assert (await http.get("/tools/tool.js", headers=since)).status_code == 304
    assert (
        await http.get("/tools", headers={"If-None-Match": (await http.get("/tools")).headers["etag"]})
    ).status_code == 304
    part = await http.get("/tools/tool.js", headers={"Range": "bytes=7-11"})
    assert (part.status_code, part.text) == (206, "const")
    assert part.headers["content-range"] == f"bytes 7-11/{len(_TOOL)}"
    assert "content-encoding" not in part.headers
    assert (await http.get("/tools/tool.js", headers={"Range": "bytes=999999-"})).status_code == 416
    head = await http.head("/tools/tool.js", headers={"Accept-Encoding": "identity"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(_TOOL)))
    compressed = await http.get("/tools/tool.js", headers={"Accept-Encoding": "gzip"})
    assert (compressed.headers["content-encoding"], compressed.text) == ("gzip", _TOOL)
    assert compressed.headers["etag"] == f"W/{etag}"
    assert (await http.get("/tools/tool.js", headers={"If-None-Match": f"W/{etag}"})).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "nothing.txt",
        "deep",
        "deep/",
        "out.txt",
        "up/secret.txt",
        "up/",
        "pipe",
        "tool.js/",
        "tool.js/more",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "..%5csecret.txt",
        "%2fetc/passwd",
        "//etc/passwd",
        "a" * 300,
        "%ff%fe",
        "deep/%2e%2e/%2e%2e/secret.txt",
    ],
)
async def test_nothing_outside(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(f"/tools/{path}")
    assert (response.status_code, response.json()["success"]) == (404, False), response.text


async def test_only_to_read(http: httpx.AsyncClient) -> None:
    for path in ("/tools", "/tools/tool.js", "/tools/new.txt"):
        for method in ("POST", "PUT", "DELETE"):
            response = await http.request(method, path)
            assert (response.status_code, told(response)) == (405, {"detail": "Method Not Allowed"})
            assert "GET" in response.headers["allow"]


@pytest.mark.parametrize(
    ("mounts", "sentence"),
    [
        (["/tools:./nowhere"], "nowhere for /tools cannot be served: No such file or directory"),
        (["/tools:./secret.txt"], "cannot be served: Not a directory"),
        (["/tools:./webtools", "/tools:./images"], "must mount one folder only at '/tools'"),
        (["/health:./webtools"], "must not mount at '/health': the server itself answers there"),
    ],
)
def test_refused(folder: Path, mounts: list[str], sentence: str) -> None:
    """What cannot be served is told before anything starts."""
    done = _check(folder, "serve", "--static-mounts", *mounts, f"--data-dir={folder / 'data'}", "--port=0")
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "data").exists()
    assert _check(folder, "check-config", "--static-mounts", *mounts).returncode == 1


def test_every_way_to_write_several(folder: Path) -> None:
    """Several values, several flags, or the environment, also with blanks in names."""
    (folder / "my images, old").mkdir(exist_ok=True)
    words = ["/tools:./webtools", "/images:./my images, old"]
    shown = "static_mounts = /tools:./webtools '/images:./my images, old'"
    for flags, environ in (
        (["--static-mounts", *words], {}),
        (["--static-mounts", words[0], "--static-mounts", words[1]], {}),
        ([f"--static-mounts={words[0]}", f"--static-mounts={words[1]}"], {}),
        ([], {"HYPHA_STATIC_MOUNTS": f"{words[0]} '{words[1]}'"}),
        ([], {"HYPHA_STATIC_MOUNTS": f'{words[0]},"{words[1]}"'}),
    ):
        done = _check(folder, "check-config", *flags, **environ)
        assert shown in done.stdout, (flags, environ, done.stderr)
