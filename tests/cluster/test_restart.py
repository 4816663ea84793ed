from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import httpx
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.cluster.storing import publish, read_back

StartCluster: TypeAlias = Callable[..., RunningCluster]


async def test_what_people_keep_survives_a_restart(start_cluster: StartCluster, tmp_path: Path) -> None:
    """Workspaces, their variables, artifacts with their files and versions, files of workspaces, content types."""
    first = start_cluster(data_dir=tmp_path / "d", storage=True)
    token = first.user_token("sam")
    async with connect_to_server({"server_url": first.url, "token": token}) as server:
        await server.create_workspace({"name": "sams-lab", "persistent": True, "description": "kept"})
        await server.set_env("API_KEY", "secret")
    await publish(first, token, "things", {"a.weird": b"bytes", "empty": b""})
    async with httpx.AsyncClient(base_url=first.url, headers={"authorization": f"Bearer {token}"}) as http:
        stored = await http.put(
            "/ws-user-sam/files/notes/a.weird", content=b"notes", headers={"content-type": "text/x-notes"}
        )
        assert stored.status_code == 200, stored.text
    before = await read_back(first, token, "things", "a.weird")
    assert first.stop() == 0

    again = start_cluster(data_dir=tmp_path / "d", storage=True)
    async with connect_to_server({"server_url": again.url, "token": token}) as server:
        assert await server.get_env("API_KEY") == "secret"
        assert (await server.get_workspace_info("sams-lab"))["description"] == "kept"
        manager = await server.get_service("public/artifact-manager")
        artifact = await manager.read("things")
        assert (artifact["manifest"], artifact["file_count"]) == ({"name": "things"}, 2)
        assert [version["version"] for version in artifact["versions"]] == ["v0"]
        assert [entry["name"] for entry in await manager.list_files("things")] == ["a.weird", "empty"]
    after = await read_back(again, token, "things", "a.weird")
    assert (after.status_code, after.content) == (200, b"bytes")
    # The store itself forgets what it was told of types that no extension tells.
    assert after.headers["content-type"] == before.headers["content-type"] == "text/x-test"
    assert after.headers["etag"] == before.headers["etag"]
    assert (await read_back(again, token, "things", "empty")).content == b""
    async with httpx.AsyncClient(base_url=again.url, headers={"authorization": f"Bearer {token}"}) as http:
        notes = await http.get("/ws-user-sam/files/notes/a.weird")
        assert (notes.content, notes.headers["content-type"]) == (b"notes", "text/x-notes")
    assert again.errors() == []
