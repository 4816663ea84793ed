from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from hypha.server.data_directory import DataDirectory
from hypha.server.ports import check_free, free_run
from hypha_common.errors import ConfigurationError


def test_secrets_are_made_once_and_for_our_eyes_only(tmp_path: Path) -> None:
    """Tokens stay valid over a restart, and nobody else reads the key."""
    data = DataDirectory(tmp_path / "d")
    first = data.open()
    data.close()
    assert len(first.jwt_secret) >= 32
    assert DataDirectory(tmp_path / "d").open() == first == DataDirectory(tmp_path / "d").read_secrets()
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "d" / "secrets.json").stat().st_mode) == 0o600
    assert first.jwt_secret not in repr(first)


def test_one_server_at_a_time(tmp_path: Path) -> None:
    """The second one is told who holds the directory; after a close it may have it."""
    import os

    first, second = DataDirectory(tmp_path), DataDirectory(tmp_path)
    first.open()
    with pytest.raises(ConfigurationError, match=rf"is in use by another server \(process {os.getpid()}\)"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        DataDirectory(tmp_path / "file" / "d").open()


def test_damaged_secrets_are_not_replaced(tmp_path: Path) -> None:
    """New ones would make every token invalid and lock us out of the database."""
    (tmp_path / "secrets.json").write_text("{")
    with pytest.raises(ConfigurationError, match="holds no secrets"):
        DataDirectory(tmp_path).open()


def test_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Port {port} at 127.0.0.1 is in use"):
            check_free("127.0.0.1", port)


def test_address_of_another_machine_is_told() -> None:
    with pytest.raises(ConfigurationError, match="Cannot listen at"):
        check_free("192.0.2.1", 1234)


def test_run_of_ports() -> None:
    """Gateway i listens at port + i."""
    first = free_run("127.0.0.1", 3)
    check_free("127.0.0.1", first, 3)
    with pytest.raises(ConfigurationError, match="leaves no room"):
        check_free("127.0.0.1", 65535, 2)
