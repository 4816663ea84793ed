"""A backup of a cluster in use, restored into a new data directory by the lines of docs/how-to/backing-up.md."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster, new_data_dir
from tests.cluster.storing import publish, read_back
from tests.fixtures.commands import run_command

_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "backing-up.md"


@pytest.mark.slow
async def test_a_cluster_comes_back_from_its_backup(
    start_cluster: Callable[..., RunningCluster], tmp_path: Path
) -> None:
    first = start_cluster(storage=True)
    token = first.user_token("sam")
    await publish(first, token, "things", {"a.weird": b"bytes", "empty": b""})
    async with connect_to_server({"server_url": first.url, "token": token}) as server:
        await server.set_env("API_KEY", "of the workspace")
        await (await server.get_service("public/artifact-manager")).set_secret("things", "KEY", "of the artifact")
    _run("pg_dump", tmp_path, first.data_dir)
    await publish(first, token, "younger", {"b": b"after the dump"})
    _run('cp -a "$data/s3"', tmp_path, first.data_dir)
    assert first.stop() == 0

    data_dir = tmp_path / "restored"
    new_data_dir(data_dir)
    (data_dir / "secrets.json").unlink()
    _run("cp -a backup/secrets.json", tmp_path, data_dir)
    empty = start_cluster(data_dir=data_dir, storage=True)
    _run("pg_restore", tmp_path, data_dir)
    assert empty.stop() == 0

    again = start_cluster(data_dir=data_dir, storage=True)
    async with connect_to_server({"server_url": again.url, "token": token}) as server:
        manager = await server.get_service("public/artifact-manager")
        assert [artifact["alias"] for artifact in await manager.list()] == ["things"]
        assert await manager.get_secret("things", "KEY") == "of the artifact"
        assert await server.get_env("API_KEY") == "of the workspace"
        assert [entry["name"] for entry in await manager.list_files("things")] == ["a.weird", "empty"]
    file = await read_back(again, token, "things", "a.weird")
    assert (file.content, file.headers["content-type"]) == (b"bytes", "text/x-test")
    assert await _found(data_dir) == []
    ghosts = await run_command("hypha_workspace", "ghosts", f"--data-dir={data_dir}")
    assert (ghosts.status, ghosts.out) == (0, "")
    assert again.errors() == []


async def _found(data_dir: Path) -> list[Any]:
    """Return what ``verify`` finds besides files that are younger than the dump, all of them read."""
    done = await run_command("hypha_artifacts", "verify", "--deep", "--json", f"--data-dir={data_dir}")
    told = json.loads(done.out)
    assert (told["checked"]["rows"], told["checked"]["stored"]) == (2, 3), done
    return [finding for finding in told["findings"] if finding["kind"] != "orphan"]


def _run(what: str, folder: Path, data_dir: Path) -> None:
    """Run the lines of the page among which is ``what``, in a folder, on a data directory."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    [lines] = [block for block in blocks if what in block]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "data": str(data_dir)}
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
