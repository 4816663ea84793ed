"""Files of artifacts on a whole cluster, as docs/how-to/artifact-files.md shows them, by hypha-rpc, curl and HTTP."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect
from tests.fixtures.errors_told import told

_PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "artifact-files.md").read_text()
_SNIPPETS = re.findall(r"```(python|bash)\n(.*?)```", _PAGE, re.DOTALL)


def snippet(text: str) -> str:
    """Return the code of the page that contains ``text``."""
    (found,) = (code for _, code in _SNIPPETS if text in code)
    return found


async def run_python(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run code of the page and return its variables."""
    source = "async def page():\n" + textwrap.indent(code, "    ") + "\n    return locals()\n"
    exec(compile(source, "docs/how-to/artifact-files.md", "exec"), names)
    found: dict[str, Any] = await names["page"]()
    return found


async def run_shell(code: str, cwd: Path, **environ: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", code, cwd=cwd, env={"PATH": "/usr/bin:/bin", **environ}, stdout=-1, stderr=-1
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output


@pytest.fixture
def user() -> str:
    return f"user-{new_id(8).lower()}"


async def test_the_page(
    cluster: RunningCluster, connect: Connect, user: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every example of it, one after the other, does what it says."""
    token, workspace = cluster.user_token(user), f"ws-user-{user}"
    first = await run_python(snippet('tables/one.csv")\n    async'), {"url": cluster.url, "token": token})
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["file notes.md", "directory tables"]
    async with httpx.AsyncClient() as http:
        assert (await http.get(said[2])).content == b"a,b\n1,2\n"

    server = await connect(token=token)
    artifacts = await server.get_service("public/artifact-manager")
    names = {"artifacts": artifacts, "data": first["data"], "server": server, "httpx": httpx}
    await artifacts.edit(first["data"].id, stage=True)
    await run_python(snippet("put_file_start_multipart"), {**names, "pieces": [b"a" * 5 * 2**20, b"b"]})
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8 photo")
    (tmp_path / "there").mkdir()
    upload, *downloads = re.split(r"\n\n", snippet("photo.jpg"))
    environ = {"URL": cluster.url, "WS": workspace, "TOKEN": token}
    assert b"File uploaded successfully" in await run_shell(upload, tmp_path, **environ)
    output = await run_shell("\n".join(downloads), tmp_path / "there", **environ)
    assert (tmp_path / "there" / "photo.jpg").read_bytes() == b"\xff\xd8 photo"
    assert output.startswith(b"a,b\n1,2\n[{")
    await artifacts.commit(first["data"].id)
    assert [(entry["name"], entry.get("size")) for entry in await artifacts.list_files(first["data"].id)] == [
        ("model.bin", 5 * 2**20 + 1), ("notes.md", 36), ("images", None), ("tables", None),
    ]  # fmt: skip

    capsys.readouterr()
    await run_python(snippet("extra_scopes"), names)
    address = capsys.readouterr().out.strip()
    async with httpx.AsyncClient() as http:
        assert (await http.get(address)).content == b"a,b\n1,2\n"
        for path in ("notes.md", "", "tables/"):
            assert (await http.get(address.replace("tables/one.csv", path))).status_code == 403
        metadata = address.replace("/files/tables/one.csv", "")
        assert (await http.get(metadata)).status_code == 403
        assert (await http.put(address, content=b"")).status_code == 403


async def test_an_address_of_ours(two_gateways: RunningCluster, user: str) -> None:
    """What is written by one gateway is known to both at once, with its type; after the commit the address is dead."""
    from hypha_rpc import connect_to_server

    first, second = two_gateways.gateway_urls
    token = two_gateways.user_token(user)
    async with (
        connect_to_server({"server_url": first, "token": token}) as server,
        httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
    ):
        artifacts = await server.get_service("public/artifact-manager")
        data = await artifacts.create(alias="d", manifest={"name": "D"}, stage=True)
        address = await artifacts.put_file(data.id, "ü/a b?.html", use_local_url=second)
        assert address.startswith(f"{second}/s3/")
        written = await http.put(address, content=b"<p>ok", headers={"Content-Type": "text/x-own"})
        assert (written.status_code, bool(written.headers["etag"])) == (200, True)
        files = f"{first}/{data.workspace}/artifacts/d/files"
        (entry,) = await artifacts.list_files(data.id, "ü", stage=True)
        assert (entry["name"], entry["size"]) == ("a b?.html", 5)
        await artifacts.commit(data.id)
        assert (await http.put(address, content=b"changed")).status_code == 409
        for base in (files, files.replace(first, second)):
            response = await http.get(f"{base}/%C3%BC/a%20b%3F.html", headers={"Range": "bytes=3-"})
            assert (response.status_code, response.content) == (206, b"ok")
            assert response.headers["content-range"] == "bytes 3-4/5"
            assert response.headers["content-type"] == "text/x-own"
        etag = response.headers["etag"]
        known = await http.get(f"{files}/%C3%BC/a%20b%3F.html", headers={"If-None-Match": etag})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
        head = await http.head(f"{files}/%C3%BC/a%20b%3F.html")
        assert (head.status_code, head.headers["content-length"], head.content) == (200, "5", b"")
        assert (await http.get(f"{files}/%C3%BC/a%20b%3F.html", headers={"Range": "bytes=5-"})).status_code == 416
        assert told(await http.get(f"{files}/none")) == {"detail": "File 'none' does not exist in the artifact."}
        assert told(await http.put(f"{files}/x", content=b"")) == {
            "detail": "Artifact must be in staging mode to upload files"
        }


async def test_services_over_http_take_text(cluster: RunningCluster, connect: Connect, user: str) -> None:
    """Query strings have no types (contract 02 FIX-14)."""
    token = cluster.user_token(user)
    artifacts = await (await connect(token=token)).get_service("public/artifact-manager")
    data = await artifacts.create(alias="d", manifest={"name": "D"}, stage=True)
    await artifacts.write_file(data.id, "2024/1", "one")
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:

        async def ask(method: str, **query: str) -> httpx.Response:
            address = f"{cluster.url}/public/services/artifact-manager/{method}"
            return await http.get(address, params={"artifact_id": data.id, **query})

        staged = {"version": "stage", "limit": "1000", "offset": "0"}
        assert (await ask("list_files", dir_path=".", **staged)).json() == [{"type": "directory", "name": "2024"}]
        assert (await ask("list_files", dir_path="2024", **staged)).json()[0]["name"] == "1"
        assert (await ask("list_files", stage="false", include_pending="false")).json() == []
        response = await ask("get_file", file_path="2024/1", stage="true", use_local_url="false", use_proxy="true")
        assert (await http.get(response.json(), headers={"Authorization": ""})).text == "one"
        assert (await ask("get_file", file_path="none")).status_code == 404
        assert (await ask("list_files", stage="perhaps")).status_code == 400
        assert (await ask("list_files", surprise="1")).status_code == 400
