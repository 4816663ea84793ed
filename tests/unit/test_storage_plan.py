from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hypha.server.data_directory import DataDirectory
from hypha.server.minio_store import MinioStore
from hypha.server.object_store import ObjectStore
from hypha.server.ports import LOOPBACK
from hypha.server.rclone_store import RcloneStore
from hypha.server.storage_plan import StorageKind, StoragePlan, plan_storage
from hypha.server.stores import make_store
from hypha_common.errors import ConfigurationError
from hypha_common.settings import Settings

BOTH = (
    "Cannot use --start-minio-server with S3 settings (--endpoint-url, --access-key-id, --secret-access-key). "
    "Please use either built-in Minio server or external S3 configuration."
)
OWN = {"endpoint_url": "https://s3.example.org", "access_key_id": "key", "secret_access_key": "secret"}


def settings_of(**given: Any) -> Settings:
    return Settings.load(given, environ={})


def plan(**given: Any) -> StoragePlan:
    return plan_storage(settings_of(**given))


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH with nothing on it but what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def program() -> Callable[[Path], Path]:
    def make(file: Path) -> Path:
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
        return file

    return make


def store_of(tmp_path: Path, **given: Any) -> ObjectStore:
    data = DataDirectory(tmp_path / "d")
    data.logs.mkdir(parents=True, exist_ok=True)
    settings = settings_of(minio_port=0, **given)
    store = make_store(plan_storage(settings), settings, data, "only-we-know")
    assert store is not None
    return store


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, StorageKind.EMBEDDED),
        ({"enable_s3": True}, StorageKind.EMBEDDED),
        ({"enable_s3": False}, StorageKind.NONE),
        ({"disable_s3": True}, StorageKind.NONE),
        ({"disable_s3": True, **OWN}, StorageKind.NONE),
        (OWN, StorageKind.EXTERNAL),
        ({"enable_s3": True, **OWN}, StorageKind.EXTERNAL),
        ({"endpoint_url": "", "access_key_id": "", "secret_access_key": ""}, StorageKind.EMBEDDED),
        ({"start_minio_server": True}, StorageKind.MINIO),
        ({"start_minio_server": True, "endpoint_url": ""}, StorageKind.MINIO),
    ],
)
def test_which_store(given: dict[str, Any], kind: StorageKind) -> None:
    assert plan(**given).kind is kind


@pytest.mark.parametrize("name", OWN)
def test_built_in_and_external_store_exclude_each_other(name: str) -> None:
    """In the documented words."""
    with pytest.raises(ConfigurationError) as caught:
        plan(start_minio_server=True, **{name: OWN[name]})
    assert str(caught.value) == BOTH


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"enable_s3": True, "disable_s3": True}, "Cannot use --enable-s3 together with --disable-s3"),
        ({"start_minio_server": True, "disable_s3": True}, "--start-minio-server together with --disable-s3"),
        ({"endpoint_url": "http://s3"}, "--access-key-id is missing"),
        ({"endpoint_url": "http://s3", "access_key_id": "key"}, "--secret-access-key is missing"),
        ({"access_key_id": "key", "secret_access_key": "secret"}, "--endpoint-url is missing"),
        ({"start_minio_server": True, "minio_root_password": "my,password"}, "minio_root_password must have no comma"),
    ],
)
def test_contradictions(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        plan(**given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"access_key_id": "ab"}, "access_key_id must have at least 3 characters"),
        ({"minio_root_user": "ab"}, "minio_root_user must have at least 3 characters"),
        ({"minio_root_user": "my,user"}, "minio_root_user must have no commas"),
        ({"minio_root_password": "short"}, "minio_root_password must have at least 8 characters"),
        ({"workspace_bucket": "My Bucket"}, "workspace_bucket must have 3 to 63 lower-case letters"),
        ({"endpoint_url": "s3.example.org"}, "endpoint_url must be an http:// or https:// address"),
        ({"minio_port": 70000}, "minio_port must be between 0 and 65535"),
    ],
)
def test_values_that_no_store_takes(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        settings_of(**given)


@pytest.mark.parametrize(
    ("host", "password", "listens", "told"),
    [
        ("0.0.0.0", "minioadmin", LOOPBACK, True),
        ("0.0.0.0", "mypassword", "0.0.0.0", False),
        ("127.0.0.1", "minioadmin", LOOPBACK, False),
        ("::1", "minioadmin", LOOPBACK, False),
        ("192.0.2.1", "minioadmin", LOOPBACK, True),
        ("localhost", "mypassword", "localhost", False),
    ],
)
def test_default_password_opens_nothing_to_the_network(host: str, password: str, listens: str, told: bool) -> None:
    found = plan(start_minio_server=True, host=host, minio_root_password=password, minio_workdir="d")
    assert found.host == listens
    assert any("listens on this machine only" in sentence for sentence in found.sentences) is told


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"start_minio_server": True}, "in a temporary folder and are gone when the server stops"),
        ({"start_minio_server": True, "minio_version": "RELEASE.x"}, "--minio-version has no effect"),
        ({"start_minio_server": True, "mc_version": "RELEASE.x"}, "--mc-version has no effect"),
        ({"start_minio_server": True, "minio_console_port": 9002}, "--minio-console-port has no effect"),
        ({"minio_workdir": "d"}, "--minio-workdir has no effect without --start-minio-server"),
        ({"executable_path": "bin", **OWN}, "--executable-path has no effect without --start-minio-server"),
        ({"start_minio_server": True, "executable_path": "bin"}, "rclone serves S3 in its place"),
    ],
)
def test_what_is_not_done_is_said(given: dict[str, Any], text: str) -> None:
    assert any(text in sentence for sentence in plan(**given).sentences)


def test_nothing_to_say() -> None:
    assert plan().sentences == ()
    assert plan(**OWN).sentences == ()
    assert plan(start_minio_server=True, minio_workdir="d").sentences == ()


def test_which_program(path: Path, tmp_path: Path, program: Callable[[Path], Path]) -> None:
    """The one that is named, in a folder or by itself; else one that is installed; else rclone."""

    def found(**given: Any) -> Path | None:
        return plan(start_minio_server=True, **given).program

    assert found() is None
    installed = program(path / "minio")
    assert found() == installed
    assert found(minio_file_system_mode=True) is None  # it would not leave plain files
    (tmp_path / "own").mkdir()
    assert found(executable_path=str(tmp_path / "own")) == installed
    named = program(tmp_path / "own" / "minio")
    for given in (tmp_path / "own", named):
        assert found(executable_path=str(given)) == named
        assert found(executable_path=str(given), minio_file_system_mode=True) == named
    named.chmod(0o644)
    with pytest.raises(ConfigurationError, match="cannot be executed"):
        found(executable_path=str(named))
    with pytest.raises(ConfigurationError, match="there is no"):
        found(executable_path=str(tmp_path / "absent" / "minio"))


def test_command_of_minio(tmp_path: Path, program: Callable[[Path], Path]) -> None:
    """Its own command line and environment."""
    named = program(tmp_path / "minio")
    store = store_of(
        tmp_path, start_minio_server=True, executable_path=str(named), minio_workdir=str(tmp_path / "w"),
        minio_root_user="myuser", minio_root_password="mypassword", host="::",
    )  # fmt: skip
    assert isinstance(store, MinioStore)
    store.prepare()
    run = store.program()
    port = store.url.rpartition(":")[2]
    assert run.command[:4] == [str(named), "server", "--address", f"[::]:{port}"]
    assert run.command[-1] == str(tmp_path / "w")
    assert run.environment is not None
    assert run.environment["MINIO_ROOT_USER"] == "myuser"
    assert run.environment["MINIO_ROOT_PASSWORD"] == "mypassword"
    assert "mypassword" not in " ".join(run.command)
    assert store.url == f"http://[::1]:{port}"


def test_command_of_rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment; what the operator has there for other uses of rclone does not matter."""
    monkeypatch.setenv("RCLONE_VFS_CACHE_MODE", "full")
    store = store_of(
        tmp_path, start_minio_server=True, minio_workdir=str(tmp_path / "w"), minio_root_password='my "pass"word'
    )
    store.prepare()
    run = store.program()
    assert run.environment is not None
    assert run.environment["RCLONE_AUTH_KEY"] == '"minioadmin,my ""pass""word"'
    assert "RCLONE_VFS_CACHE_MODE" not in run.environment
    assert "word" not in " ".join(run.command)
    assert store.settings["secret_access_key"] == 'my "pass"word'
    assert store.folder == tmp_path / "w"
    store.close()
    assert (tmp_path / "w").exists()


def test_temporary_folder(tmp_path: Path) -> None:
    store = store_of(tmp_path, start_minio_server=True)
    store.prepare()
    folder = store.folder
    (folder / "bucket").mkdir()
    assert folder.parent.stat().st_mode & 0o077 == 0  # for our eyes only
    store.close()
    assert not folder.parent.exists()


def test_embedded_store_keeps_its_files_with_the_data(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    assert isinstance(store, RcloneStore)
    assert store.folder == tmp_path / "d" / "s3"
    assert store.settings["access_key_id"] == "hypha"
    assert store.settings["secret_access_key"] == "only-we-know"


def test_files_of_minio_and_plain_files_are_not_mixed_up(tmp_path: Path, program: Callable[[Path], Path]) -> None:
    """Neither program would see the other's files."""
    given = {"start_minio_server": True, "minio_workdir": str(tmp_path / "w")}
    named = {"executable_path": str(program(tmp_path / "minio"))}
    store_of(tmp_path, **given).prepare()
    with pytest.raises(ConfigurationError, match="holds plain files, which MinIO would not see"):
        store_of(tmp_path, **given, **named).prepare()
    store_of(tmp_path, **given, **named, minio_file_system_mode=True).prepare()
    (tmp_path / "w" / ".minio.sys").mkdir()
    (tmp_path / "w" / ".minio.sys" / "format.json").write_text(json.dumps({"format": "xl-single"}))
    with pytest.raises(ConfigurationError, match=r"\(format xl-single\), which only MinIO can read"):
        store_of(tmp_path, **given).prepare()
    with pytest.raises(ConfigurationError, match=r"in its own format \(xl-single\)"):
        store_of(tmp_path, **given, **named, minio_file_system_mode=True).prepare()
    (tmp_path / "w" / ".minio.sys" / "format.json").write_text(json.dumps({"format": "fs"}))
    store_of(tmp_path, **given).prepare()
    store_of(tmp_path, **given, **named, minio_file_system_mode=True).prepare()
    assert not (tmp_path / "w" / ".minio.sys").exists()


def test_minio_that_is_installed_later(tmp_path: Path, path: Path, program: Callable[[Path], Path]) -> None:
    """A folder that rclone has served stays with it, unless another program is asked for."""
    given = {"start_minio_server": True, "minio_workdir": str(tmp_path / "w")}
    store_of(tmp_path, **given).prepare()
    program(path / "minio")
    assert isinstance(store_of(tmp_path, **given), RcloneStore)
    assert isinstance(store_of(tmp_path, **{**given, "minio_workdir": str(tmp_path / "new")}), MinioStore)


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = store_of(tmp_path, start_minio_server=True, minio_workdir=str(tmp_path / "file" / "w"))
    with pytest.raises(ConfigurationError, match=r"S3 folder .* cannot be used"):
        store.prepare()
