from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import httpx
import psutil
import pytest

from hypha.server.ports import free_port
from tests.cluster.running_cluster import RunningCluster
from tests.cluster.storing import publish, read_back
from tests.fixtures.object_store import ObjectStore, object_store

__all__ = ["object_store"]

StartCluster: TypeAlias = Callable[..., RunningCluster]

PASSWORD = "my password 'quoted' \"twice\""


@pytest.fixture
def port() -> int:
    return free_port()


def listeners(process: psutil.Process) -> set[str]:
    return {f"{at.laddr.ip}:{at.laddr.port}" for at in process.net_connections() if at.status == psutil.CONN_LISTEN}


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_built_in_server(start_cluster: StartCluster, tmp_path: Path, port: int) -> None:
    """Custom settings as the document shows them; plain files where they are said to be, and there again later."""
    flags = ["--start-minio-server", "--minio-workdir=./minio_data", f"--minio-port={port}", "--minio-root-user=myuser"]
    flags += [f"--minio-root-password={PASSWORD}", "--minio-file-system-mode", "--host=0.0.0.0"]
    first = start_cluster(*flags, cwd=tmp_path, data_dir=tmp_path / "d", storage=True)
    assert f"S3 (rclone) at 127.0.0.1:{port}, files in {tmp_path}/minio_data" in first.output
    token = first.user_token("sam")
    addresses = await publish(first, token, "things", {"folder/a.txt": b"plain"})
    # Clients are given addresses of this server, whatever the store is.
    assert addresses["folder/a.txt"].startswith(f"{first.url}/s3/hypha-workspaces/")
    stored = files_below(tmp_path / "minio_data" / "hypha-workspaces")
    assert [data for path, data in stored.items() if path.endswith("/folder/a.txt")] == [b"plain"]
    [pid] = first.pids["s3"]
    # A password of one's own: the store may be reached from elsewhere, as the server itself.
    assert listeners(psutil.Process(pid)) <= {f"0.0.0.0:{port}", f":::{port}"}
    lines = [" ".join(process.cmdline()) for process in first.tree()[1:]]
    assert not [line for line in lines if PASSWORD in line or "minioadmin" in line]
    assert first.errors() == []
    assert first.stop() == 0
    again = start_cluster(*flags, cwd=tmp_path, data_dir=tmp_path / "d", storage=True)
    answer = await read_back(again, token, "things", "folder/a.txt", range="bytes=1-3")
    assert (answer.status_code, answer.content) == (206, b"lai")


async def test_temporary_folder(start_cluster: StartCluster, port: int) -> None:
    """By default the built-in server keeps nothing, and with its default password it is for this machine only."""
    cluster = start_cluster("--start-minio-server", f"--minio-port={port}", "--host=0.0.0.0", storage=True)
    assert "note: files are kept in a temporary folder and are gone when the server stops" in cluster.log
    assert "note: the S3 server listens on this machine only, because its password is the default" in cluster.log
    [pid] = cluster.pids["s3"]
    assert listeners(psutil.Process(pid)) == {f"127.0.0.1:{port}"}
    folder = Path(re.findall(r"files in (\S+)", cluster.output)[0])
    await publish(cluster, cluster.user_token(), "things", {"a": b"1"})
    assert files_below(folder)
    assert cluster.stop() == 0
    assert not folder.parent.exists()


async def test_minio_program(start_cluster: StartCluster, tmp_path: Path, port: int) -> None:
    """One that is named is run as MinIO is run: here a script that hands over to rclone."""
    rclone = Path(sys.executable).with_name("rclone")
    (tmp_path / "minio").write_text(
        f"""#!/bin/sh -e
        printf '%s\\n' "$0" "$@" "$MINIO_ROOT_USER" >{tmp_path}/command
        export RCLONE_AUTH_KEY="$MINIO_ROOT_USER,$MINIO_ROOT_PASSWORD"
        export RCLONE_AUTH_KEY="\\"$RCLONE_AUTH_KEY\\""
        exec {rclone} serve s3 --addr "$3" --config /dev/null "$6"
        """
    )
    (tmp_path / "minio").chmod(0o755)
    flags = ["--start-minio-server", f"--minio-workdir={tmp_path}/w", f"--minio-port={port}"]
    flags += [f"--executable-path={tmp_path}", "--minio-root-password=mypassword"]
    cluster = start_cluster(*flags, storage=True)
    assert f"S3 (MinIO) at 127.0.0.1:{port}" in cluster.output
    command = (tmp_path / "command").read_text().splitlines()
    assert command == [
        f"{tmp_path}/minio", "server", "--address", f"127.0.0.1:{port}",
        "--console-address", f"127.0.0.1:{port + 1}", f"{tmp_path}/w", "minioadmin",
    ]  # fmt: skip
    token = cluster.user_token()
    await publish(cluster, token, "things", {"a": b"by way of the script"})
    assert (await read_back(cluster, token, "things", "a")).content == b"by way of the script"


async def test_external_store(start_cluster: StartCluster, object_store: ObjectStore, tmp_path: Path) -> None:
    """Addresses lead to the store itself, unless --enable-s3-proxy; that it knows no rules for browsers is logged."""
    flags = ["--enable-s3", f"--endpoint-url={object_store.url}", f"--access-key-id={object_store.access_key_id}"]
    flags += ["--workspace-bucket=of-this-test", f"--secret-access-key={object_store.secret_access_key}"]
    public = object_store.url.replace("127.0.0.1", "localhost")
    direct = start_cluster(*flags, f"--endpoint-url-public={public}", data_dir=tmp_path / "d", storage=True)
    assert "s3" not in direct.pids
    token = direct.user_token("sam")
    addresses = await publish(direct, token, "things", {"a": b"direct"})
    assert addresses["a"].startswith(f"{public}/of-this-test/artifacts/ws-user-sam/")
    assert "bucket_cors_not_set" in direct.log
    assert direct.errors() == []
    assert direct.stop() == 0
    proxied = start_cluster(*flags, "--enable-s3-proxy", data_dir=tmp_path / "d", storage=True)
    assert (await read_back(proxied, token, "things", "a")).content == b"direct"
    addresses = await publish(proxied, token, "more", {"a": b"proxied"})
    assert addresses["a"].startswith(f"{proxied.url}/s3/of-this-test/artifacts/ws-user-sam/")
    assert "bucket_cors_not_set" not in proxied.log


def test_store_and_service_that_die_are_started_again(start_cluster: StartCluster) -> None:
    """At the same address, with the same files; and the cluster is ready again by itself."""
    cluster = start_cluster(storage=True)
    killed = {role: cluster.pids[role] for role in ("s3", "artifacts")}
    for [pid] in killed.values():
        os.kill(pid, signal.SIGKILL)
    _until(lambda: all(cluster.pids.get(role, pids) != pids for role, pids in killed.items()))
    _until(lambda: httpx.get(f"{cluster.url}/public/services/artifact-manager/list").status_code == 200)


def test_port_in_use(tmp_path: Path) -> None:
    """It says which one and by which flag, before anything starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = _run(tmp_path, "--start-minio-server", f"--minio-port={port}")
    assert done.returncode == 1
    assert f"Port {port} at 127.0.0.1 is in use" in done.stderr
    assert "choose another --minio-port" in done.stderr


def test_program_that_ends_at_once(tmp_path: Path, port: int) -> None:
    """What it wrote is shown."""
    (tmp_path / "minio").write_text("#!/bin/sh\necho 'FATAL unknown disk' >&2; exit 3\n")
    (tmp_path / "minio").chmod(0o755)
    done = _run(tmp_path, "--start-minio-server", f"--executable-path={tmp_path}/minio", f"--minio-port={port}")
    assert done.returncode == 1
    assert "s3 ended at once (3): FATAL unknown disk" in done.stderr


@pytest.fixture
def under_uvicorn(tmp_path: Path, port: int) -> Iterator[str]:
    """The document's way: `python -m uvicorn hypha.server:app`, flags as variables."""
    http = free_port()
    command = [sys.executable, "-m", "uvicorn", "hypha.server:app", "--host=0.0.0.0", f"--port={http}"]
    environ = {
        "PATH": os.environ["PATH"],
        "HYPHA_DATA_DIR": str(tmp_path / "d"),
        "HYPHA_START_MINIO_SERVER": "true",
        "HYPHA_MINIO_PORT": str(port),
        "HYPHA_MINIO_WORKDIR": str(tmp_path / "w"),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=output, stderr=output)
    deadline = time.monotonic() + 60
    while "startup complete" not in log.read_text():
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    children = psutil.Process(server.pid).children(recursive=True)
    yield f"http://127.0.0.1:{http}"
    server.terminate()
    server.wait(30)
    assert not [child for child in children if child.is_running()]


def test_under_an_asgi_server(under_uvicorn: str, tmp_path: Path, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        assert (tmp_path / "w" / "hypha-workspaces").is_dir()


def _run(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")}
    command = [sys.executable, "-m", "hypha.server", "--port=0", f"--data-dir={tmp_path / 'd'}", *flags]
    return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60)
