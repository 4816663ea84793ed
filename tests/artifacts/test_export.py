"""Artifacts become folders that people can read, and nothing is written outside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hypha_artifacts.core import Core
from hypha_artifacts.keeping.export import Exporter
from hypha_artifacts.manager.sealing import Sealing
from hypha_artifacts.transfer.safe_folder import SafeFolder, UnsafePath, readable_name
from hypha_common.errors import NotFound

from .kept_rows import WORKSPACE, commit_files, make_artifact, stage_file


async def test_all_versions_the_draft_and_what_is_known(core: Core, tmp_path: Path) -> None:
    """Under names that a version or an alias cannot lead out of; a file beside a folder of its name gets another."""
    alias, shard = "my shelf: ünï", core.database.for_workspace(WORKSPACE)
    artifact = await make_artifact(core, WORKSPACE, alias)
    await commit_files(core, WORKSPACE, alias, artifact, {"a": b"1", "a/b": b"2", "dir/c.txt": b"3"})
    await commit_files(core, WORKSPACE, alias, artifact, {"big": b"x" * (9 * 2**20)})
    await stage_file(core, WORKSPACE, alias, artifact, "new.txt", b"4")
    await stage_file(core, WORKSPACE, alias, artifact, "never.txt", None)
    await shard.execute("UPDATE artifact_versions SET name = '../../../evil' WHERE seq = 0")
    sealed = Sealing(core.settings).seal(artifact, {"KEY": "hidden-value"})
    await shard.execute("UPDATE artifacts SET secrets = $1", sealed)

    exporter = Exporter(core, tmp_path / "out")
    await exporter.export(WORKSPACE)
    assert exporter.failures == []
    assert (exporter.written["artifacts"], exporter.written["files"]) == (1, 5)
    folder = tmp_path / "out" / WORKSPACE / "my shelf%3A ünï"
    first = folder / "versions" / "..%2F..%2F..%2Fevil" / "files"
    assert (first / "a").read_bytes() == b"1"
    assert (first / "a%2Fb%").read_bytes() == b"2"
    assert (first / "dir" / "c.txt").read_bytes() == b"3"
    assert (folder / "versions" / "v1" / "files" / "big").read_bytes() == b"x" * (9 * 2**20)
    assert (folder / "draft" / "files" / "new.txt").read_bytes() == b"4"
    about = json.loads((folder / "artifact.json").read_text())
    assert about["id"] == f"{WORKSPACE}/{alias}"
    assert [version["version"] for version in about["versions"]] == ["../../../evil", "v1"]
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"hidden-value" in path.read_bytes() for path in everything)
    assert not any(path.name.endswith(".part") for path in everything)

    await Exporter(core, tmp_path / "out", with_secrets=True).export(f"{WORKSPACE}/{alias}")
    secrets = folder / "secrets.json"
    assert json.loads(secrets.read_text())["secrets"] == {"KEY": "hidden-value"}
    assert secrets.stat().st_mode & 0o077 == 0


async def test_missing_bytes_and_names_are_told(core: Core, tmp_path: Path) -> None:
    artifact = await make_artifact(core, WORKSPACE, "holes")
    await commit_files(core, WORKSPACE, "holes", artifact, {"a": b"1", "b": b"2"})
    key = await core.database.for_workspace(WORKSPACE).fetchval("SELECT key FROM blobs WHERE key LIKE '%/a'")
    await core.store.delete([key])
    exporter = Exporter(core, tmp_path)
    await exporter.export(f"{WORKSPACE}/holes")
    assert len(exporter.failures) == 1
    assert exporter.written["files"] == 1
    for nothing in ("ws-user-nobody", f"{WORKSPACE}/absent"):
        with pytest.raises(NotFound):
            await Exporter(core, tmp_path).export(nothing)


async def test_links_in_the_target_are_not_followed(core: Core, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "out" / WORKSPACE).mkdir(parents=True)
    (tmp_path / "out" / WORKSPACE / "linked").symlink_to(outside)
    artifact = await make_artifact(core, WORKSPACE, "linked")
    await commit_files(core, WORKSPACE, "linked", artifact, {"a": b"1"})
    with pytest.raises(UnsafePath):
        await Exporter(core, tmp_path / "out").export(f"{WORKSPACE}/linked")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "path", ["../a", "a/../../b", "/etc/passwd", "a//b", "", ".", "a/", "a\x00b", "link/x", "dead"]
)
def test_places_outside_are_refused(tmp_path: Path, path: str) -> None:
    folder = SafeFolder(tmp_path / "in")
    (folder.root / "link").symlink_to(tmp_path)
    (folder.root / "dead").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UnsafePath):
        folder.open(folder.place(path))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in"]


def test_readable_names_differ() -> None:
    texts = ["v1", "a/b", "a%2Fb", ".", "..", "...", "", "%", "x" * 300, "x" * 301, "ü" * 150, "tab\t", "a:b"]
    names = [readable_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert all(name not in ("", ".", "..") and "/" not in name and len(name.encode()) < 256 for name in names)
