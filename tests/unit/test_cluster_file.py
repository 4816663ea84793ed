from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hypha.server.data_directory import DataDirectory
from hypha_common.cli import Run, ServiceCli
from hypha_common.settings import Settings

_URL = "postgresql://hypha:pa%22ss@127.0.0.1:5/hypha"


def _settings(**more: object) -> Settings:
    values = {"nats_url": "nats://127.0.0.1:4", "nats_password": 'quo"te\\', "database_url": _URL, **more}
    return Settings.load(values, environ={})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings, and no cluster in the default place, of the person who runs the tests."""
    import os

    for name in list(os.environ):
        if name.startswith("HYPHA_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))


@pytest.fixture
def seen() -> list[Settings]:
    """The settings that the verb `look` was given."""
    return []


@pytest.fixture
def cli(seen: list[Settings]) -> ServiceCli:
    async def run(settings: Settings, stop: asyncio.Event) -> None:
        raise AssertionError("not served in these tests")

    def service() -> Run:
        return run

    cli = ServiceCli("workspace", run=service, requires=("nats_url", "database_url"))
    cli.add("look", lambda settings, parsed: seen.append(settings), "look")
    return cli


def test_a_command_line_finds_the_cluster_of_a_data_directory(
    cli: ServiceCli, seen: list[Settings], tmp_path: Path
) -> None:
    """While it runs, and only for its owner's eyes; other secrets than those needed to reach it are not told."""
    data = DataDirectory(tmp_path / "data")
    data.open()
    data.tell(_settings(jwt_secret="j" * 32, jwt_previous_secrets=("k" * 32, "l" * 32), root_token="Z" * 64))
    file = tmp_path / "data" / "cluster.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Z" * 64 not in file.read_text()
    assert cli.main(["look", "--data-dir", str(tmp_path / "data")]) == 0
    assert (seen[0].nats_url, seen[0].nats_password, seen[0].database_url) == (
        "nats://127.0.0.1:4", 'quo"te\\', _URL,
    )  # fmt: skip
    assert seen[0].jwt_previous_secrets == ("k" * 32, "l" * 32)
    data.close()
    assert not file.exists()


def test_the_default_data_directory_is_looked_at_where_nothing_is_configured(
    cli: ServiceCli, seen: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataDirectory(tmp_path / "share" / "hypha")
    data.open()
    data.tell(_settings())
    assert cli.main(["look"]) == 0
    assert seen.pop().nats_url == "nats://127.0.0.1:4"
    assert cli.main(["look", "--nats-url", "nats://elsewhere"]) == 0
    assert (seen[0].nats_url, seen.pop().database_url) == ("nats://elsewhere", "")
    monkeypatch.setenv("HYPHA_NATS_URL", "nats://environment")
    assert cli.main(["look"]) == 0
    assert seen.pop().nats_url == "nats://environment"
    assert cli.main(["look", "--data-dir", str(data.path)]) == 0
    assert seen.pop().nats_url == "nats://127.0.0.1:4"  # named on the command line: that one is meant
    assert cli.main(["look", "--data-dir", str(data.path), "--nats-url", "nats://other"]) == 0
    assert seen.pop().nats_url == "nats://other"
    data.close()


def test_a_directory_without_a_running_cluster_is_told(
    cli: ServiceCli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Status 1 and one sentence; and a service does not serve whatever cluster it finds."""
    assert cli.main(["look", "--data-dir", str(tmp_path)]) == 1
    assert f"No cluster runs from {tmp_path}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["serve", "--data-dir", str(tmp_path)])
