from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hypha_common.cli import Run, ServiceCli
from hypha_common.settings import Settings


def _build() -> ServiceCli:
    async def run(settings: Settings, stop: asyncio.Event) -> None:
        raise AssertionError("not served in these tests")

    def service() -> Run:
        return run

    return ServiceCli("workspace", run=service, requires=("nats_url", "database_url"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HYPHA_* variable of the person who runs the tests."""
    import os

    for name in list(os.environ):
        if name.startswith("HYPHA_"):
            monkeypatch.delenv(name)


def test_check_config_prints_the_effective_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Values with their sources, secrets masked, status 0."""
    monkeypatch.setenv("HYPHA_DATABASE_URL", "postgresql://me:s3cret@db/x")
    (tmp_path / "c.toml").write_text("max_services_per_client = 7")
    flags = ["--nats-url", "nats://n", "--config", str(tmp_path / "c.toml")]
    assert _build().main(["check-config", *flags]) == 0
    output = capsys.readouterr().out
    assert "nats_url = nats://n  (flag --nats-url)" in output
    assert "database_url = postgresql://me:********@db/x  (environment HYPHA_DATABASE_URL)" in output
    assert f"max_services_per_client = 7  (file {tmp_path / 'c.toml'})" in output
    assert "s3cret" not in output


def test_check_config_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 and one sentence."""
    assert _build().main(["check-config", "--nats-url", "nats://n"]) == 1
    assert "database_url is missing: set HYPHA_DATABASE_URL" in capsys.readouterr().err


def test_check_config_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert _build().main(["check-config", "--database-pool-size", "none"]) == 1
    assert "flag --database-pool-size: database_pool_size must be a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--prot", "--port", "--jwt-secret", "--nats"])
def test_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    """Mistyped, of another role, secret, or cut short: none is accepted."""
    with pytest.raises(SystemExit) as caught:
        _build().main(["check-config", flag, "1"])
    assert caught.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_unknown_environment_is_warned_about(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPHA_NATS_URI", "nats://n")
    _build().main(["check-config"])
    assert "warning: HYPHA_NATS_URI is not a setting and is ignored (did you mean HYPHA_NATS_URL?)" in (
        capsys.readouterr().err
    )


def test_a_service_adds_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """A verb gets the settings and its own arguments, and may name the exit status."""
    cli = _build()
    verb = cli.add("count", lambda settings, parsed: settings.port + int(parsed.more), "count")
    verb.add_argument("more")
    assert cli.main(["count", "3"]) == 9530
