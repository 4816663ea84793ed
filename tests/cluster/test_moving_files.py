"""``hypha-artifacts put`` and ``get``, as people use them: whole folders, again, and after an interruption."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from hypha_artifacts.cli import build
from hypha_artifacts.transfer.local_files import LocalFile, Skipped, find_files
from hypha_artifacts.transfer.target import Target
from hypha_common.errors import BadRequest
from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster

MIB = 2**20

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def workspace(cluster: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The workspace of a new user whose token is in the environment."""
    name = f"mover-{new_id(8).lower()}"
    monkeypatch.setenv("HYPHA_SERVER_URL", cluster.url)
    monkeypatch.setenv("HYPHA_TOKEN", cluster.user_token(name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"ws-user-{name}"


@pytest.fixture
def command(workspace: str, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line; returns status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        status = build().main(arguments)
        out, err = capsys.readouterr()
        assert os.environ["HYPHA_TOKEN"] not in out + err
        return status, out, err

    return run


def make_files(folder: Path) -> dict[str, bytes]:
    draw = random.Random(1)
    files = {
        "a.txt": b"text",
        "empty": b"",
        "deep/er/and deeper/ü + 100%#?.bin": draw.randbytes(100_000),
        "deep/b.json": b"{}",
        "large.bin": draw.randbytes(11 * MIB + 17),
    }
    files |= {f"many/{number}": str(number).encode() for number in range(30)}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return files


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_there_and_back(command: Command, workspace: str, tmp_path: Path) -> None:
    """Once; the second time nothing moves but what has changed, even at the same size."""
    files, source, copy = make_files(tmp_path / "source"), tmp_path / "source", tmp_path / "copy"
    small_parts = ("--multipart-size=5", "--part-size=5")
    put = ("put", str(source), f"{workspace}/model", *small_parts)
    status, out, _ = command(*put, "--create", "--commit")
    assert (status, out.splitlines()[-1]) == (0, f"committed {workspace}/model as v0")
    assert command("get", f"{workspace}/model", str(copy))[0] == 0
    assert read_files(copy) == files

    assert "sent 0 files, 0 B, 35 were there already" in command(*put)[1]
    assert "got 0 files, 0 B, 35 were here already" in command("get", f"{workspace}/model", str(copy))[1]
    (source / "a.txt").write_bytes(b"TEXT")
    (copy / "deep" / "b.json").write_bytes(b"[]")
    assert "sent 1 files, 4 B, 34 were there already" in command(*put, "--commit")[1]
    assert "got 2 files, 6 B, 33 were here already" in command("get", f"{workspace}/model", str(copy))[1]
    assert read_files(copy) == {**files, "a.txt": b"TEXT"}


def test_files_and_folders_by_path_and_version(
    command: Command, workspace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = tmp_path / "one.txt"
    one.write_text("1")
    target = f"{workspace}/paths"
    assert command("put", str(one), target, "--create")[0] == 0
    assert command("put", str(one), f"{target}:dir/")[0] == 0
    assert command("put", str(one), f"{target}:dir/two.txt", "--commit")[0] == 0
    one.write_text("3")
    assert command("put", str(one), target, "--version=second", "--commit", "--comment=new")[0] == 0
    assert command("get", target, "second")[0] == 0
    assert read_files(tmp_path / "second") == {"one.txt": b"3"}
    assert command("get", f"{target}:dir", "first", "--version=v0")[0] == 0
    assert read_files(tmp_path / "first") == {"one.txt": b"1", "two.txt": b"1"}
    assert command("get", f"{target}:dir/two.txt", "--version=v0")[0] == 0
    assert (tmp_path / "two.txt").read_text() == "1"
    assert command("get", target)[0] == 0
    assert read_files(tmp_path / "paths") == {"one.txt": b"3"}
    assert command("put", str(one), f"{target}:draft.txt")[0] == 0
    assert command("get", target, "draft", "--stage")[0] == 0
    assert sorted(read_files(tmp_path / "draft")) == ["draft.txt", "one.txt"]
    for nothing in (f"{target}:absent", f"{target}:absent/", f"{workspace}/absent"):
        status, _, err = command("get", nothing, "nothing")
        assert status == 1
        assert err.startswith("hypha-artifacts: ")


def test_what_is_refused_is_said(
    command: Command, workspace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("1")
    source = str(tmp_path / "f")
    assert "--create makes it" in command("put", source, f"{workspace}/absent")[2]
    assert command("put", source, "ws-user-somebody-else/x", "--create")[0] == 1
    assert "There is no file or folder" in command("put", str(tmp_path / "nothing"), f"{workspace}/x")[2]
    assert "WORKSPACE/ALIAS" in command("put", source, "no-workspace")[2]
    status, _, err = command("put", source, f"{workspace}/x", "--token=wrong", "--create")
    assert (status, "wrong" in err) == (1, False)
    monkeypatch.setattr("hypha_artifacts.transfer.hub._FIRST_WAIT_S", 0.01)
    status, _, err = command("get", f"{workspace}/x", "--server-url=http://127.0.0.1:9")
    assert (status, "cannot be reached" in err) == (1, True)
    monkeypatch.delenv("HYPHA_SERVER_URL")
    assert "HYPHA_SERVER_URL" in command("get", f"{workspace}/x")[2]


async def test_an_interrupted_upload_goes_on(
    cluster: RunningCluster, workspace: str, command: Command, tmp_path: Path
) -> None:
    """Killed among its parts; the next run sends only those that are missing."""
    source = tmp_path / "big"
    source.write_bytes(random.Random(2).randbytes(60 * MIB))
    arguments = [
        "put", str(source), f"{workspace}/big", "--create", "--commit", "--multipart-size=5", "--part-size=5",
        "--connections=1",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "hypha_artifacts", *arguments)
    cache = tmp_path / "cache"
    async with asyncio.timeout(60):
        while not (states := list(cache.rglob("*.jsonl"))) or len(states[0].read_text().splitlines()) < 3:
            assert process.returncode is None, "it was too fast to be interrupted"
            await asyncio.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert states[0].stat().st_mode & 0o077 == 0
    status, out, _ = await asyncio.to_thread(command, *arguments)
    assert status == 0
    assert " MiB of them before" in out
    assert list(cache.rglob("*.jsonl")) == []
    url = f"{cluster.url}/{workspace}/artifacts/big/files/big"
    headers = {"Authorization": f"Bearer {os.environ['HYPHA_TOKEN']}"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        found = await http.get(url, follow_redirects=True)
    assert found.content == source.read_bytes()


def test_an_interrupted_download_goes_on(command: Command, workspace: str, tmp_path: Path) -> None:
    """Inside the file, where it is still the same; what is not what was stored is found out and dropped."""
    data = random.Random(3).randbytes(9 * MIB)
    (tmp_path / "big").write_bytes(data)
    assert command("put", str(tmp_path / "big"), f"{workspace}/d", "--create", "--commit")[0] == 0
    etag, copy = hashlib.md5(data, usedforsecurity=False).hexdigest(), tmp_path / "copy"
    copy.mkdir()
    part = copy / f"big.{etag}.part"
    part.write_bytes(data[: 5 * MIB])
    status, out, _ = command("get", f"{workspace}/d", str(copy))
    assert (status, "5.0 MiB of them before" in out) == (0, True)
    assert read_files(copy) == {"big": data}

    (copy / "big").unlink()
    part.write_bytes(b"x" * 5 * MIB)
    status, _, err = command("get", f"{workspace}/d", str(copy))
    assert (status, "another checksum" in err, read_files(copy)) == (1, True, {})
    stale = copy / f"big.{'0' * 32}.part"
    stale.write_bytes(b"of an older version")
    assert command("get", f"{workspace}/d", str(copy))[0] == 0
    assert read_files(copy) == {"big": data}


def test_links_are_followed_inside_the_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "real").write_text("1")
    (tmp_path / "secret").write_text("hidden")
    (folder / "in").symlink_to("sub/real")
    (folder / "out").symlink_to("../secret")
    (folder / "loop").symlink_to(".")
    (folder / "dead").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"\xff")).write_text("no text")
    found = list(find_files(folder))
    assert [file.name for file in found if isinstance(file, LocalFile)] == ["in", "sub/real"]
    assert len([file for file in found if isinstance(file, Skipped)]) == 5


@pytest.mark.parametrize("text", ["", "a", "a/", "/a", "a/b/c", ":x", "a:b/c"])
def test_targets_that_make_no_sense(text: str) -> None:
    with pytest.raises(BadRequest):
        Target.parse(text)
