from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from hypha.server.asgi import listening_at
from hypha.server.cli import main
from hypha.server.data_directory import DataDirectory
from hypha.server.environment_file import load_environment_file
from hypha.server.other_flags import NAMES, review
from hypha_common.errors import ConfigurationError
from hypha_common.principal import Permission
from hypha_common.tokens import TokenCodec


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory without .env, and no HYPHA_* variables."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("HYPHA_"):
            monkeypatch.delenv(name)


def test_check_config(capsys: pytest.CaptureFixture[str]) -> None:
    """Flags of contract 01 §6 that mean something are settings."""
    flags = ["--host=0.0.0.0", "--port=1", "--base-path=/a", "--allow-origins", "x", "y", "--server-id=s", "--from-env"]
    assert main(["check-config", *flags, "--root-token", "x" * 40]) == 0
    output = capsys.readouterr().out
    assert "allow_origins = x y  (flag --allow-origins)" in output
    assert "root_token = ********" in output


_KEYS = "--access-key-id key --secret-access-key secret"
_STARTED, _WORKDIR = "--start-minio-server", "--minio-workdir=d"
# Contract 01 §6, row by row: what becomes of each flag. The first words are the command line.
_SETTINGS = {
    "--host 0.0.0.0": "host = 0.0.0.0",
    "--port 9000": "port = 9000",
    "--allow-origins *": "allow_origins = *",
    "--allow-origins http://a,http://b": "allow_origins = http://a http://b",
    "--base-path /hub/": "base_path = /hub",
    "--public-base-url https://hub.example.org/": "public_base_url = https://hub.example.org",
    "--database-uri postgresql+asyncpg://u:p@h/d": "database_url = postgresql://u:********@h/d",
    "--static-mounts /a:./a /b:./b": "static_mounts = /a:./a /b:./b",
    "--static-mounts=/a:./a /b:./b": "static_mounts = /a:./a /b:./b",
    "--static-mounts /a:./a --static-mounts /b:./b": "static_mounts = /a:./a /b:./b",
    "--startup-functions a.py:f b:g": "startup_functions = a.py:f b:g",
    "--startup-functions=a.py:f b:g": "startup_functions = a.py:f b:g",
    "--startup-functions=a.py:f --startup-functions=b:g": "startup_functions = a.py:f b:g",
    "--server-id here": "server_id = here",
    "--enable-local-auth": "enable_local_auth = true",
    "--from-env": "port = 9527",
    "--enable-server-apps": "enable_server_apps = true",
    "--in-docker": "in_docker = true",
    "--browser-workers 2": "browser_workers = 2",
    "--disable-inprocess-browser-worker": "disable_inprocess_browser_worker = true",
    f"--root-token {'x' * 40}": "root_token = ********",
    # Contract 02 §4.1; where a flag needs others, they are there.
    "--enable-s3": "enable_s3 = true",
    f"--endpoint-url http://s3:9000 {_KEYS}": "endpoint_url = http://s3:9000",
    f"--endpoint-url-public https://s3.example.org --endpoint-url http://s3 {_KEYS}": (
        "endpoint_url_public = https://s3.example.org"
    ),
    "--access-key-id key --endpoint-url http://s3 --secret-access-key s": "access_key_id = key",
    f"--secret-access-key secret --endpoint-url http://s3 {_KEYS}": "secret_access_key = ********",
    "--region-name eu-central-1": "region_name = eu-central-1",
    "--s3-admin-type minio": "s3_admin_type = minio",
    "--enable-s3-proxy": "enable_s3_proxy = true",
    "--workspace-bucket files": "workspace_bucket = files",
    "--s3-cleanup-period 60": "s3_cleanup_period = 60",
    "--enable-s3-for-anonymous-users": "enable_s3_for_anonymous_users = true",
    f"--start-minio-server {_WORKDIR}": "start_minio_server = true",
    f"--minio-workdir=./minio_data {_STARTED}": "minio_workdir = ./minio_data",
    f"--minio-port 9001 {_STARTED} {_WORKDIR}": "minio_port = 9001",
    f"--minio-root-user=myuser {_STARTED} {_WORKDIR}": "minio_root_user = myuser",
    f"--minio-root-password=mypassword {_STARTED} {_WORKDIR}": "minio_root_password = ********",
    f"--minio-file-system-mode {_STARTED} {_WORKDIR}": "minio_file_system_mode = true",
}
_WITHOUT_EFFECT = (
    "--redis-uri redis://x", "--reset-redis", "--triton-servers http://a,http://b",
    "--ollama-host http://x", "--openai-base-url http://x", "--openai-api-key x", "--migrate-database head",
    "--cache-dir x", "--disable-agent-skills", "--enable-server", "--disable-ssl",
)  # fmt: skip
_REFUSED = (
    "--enable-service-search", "--enable-a2a", "--enable-mcp", "--enable-k8s-worker",
    "--enable-terminal-worker", "--interactive", "--enable-admin-terminal",
)  # fmt: skip


@pytest.mark.parametrize("flags", _SETTINGS)
def test_flags_that_are_settings(capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: str) -> None:
    for folder in ("a", "b"):  # for those that name folders
        (tmp_path / folder).mkdir()
    assert main(["check-config", *flags.split()]) == 0
    shown = capsys.readouterr()
    assert f"  {_SETTINGS[flags]}" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize("flags", _WITHOUT_EFFECT)
def test_flags_that_mean_nothing_here_are_accepted_with_the_reason(
    capsys: pytest.CaptureFixture[str], flags: str
) -> None:
    assert main(["check-config", *flags.split()]) == 0
    assert f"hypha-server: warning: {flags.split()[0]} has no effect: " in capsys.readouterr().err


@pytest.mark.parametrize("flag", _REFUSED)
def test_flags_that_would_silently_do_nothing_important_are_refused(
    capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert main([flag]) == 1
    assert re.search(f"{flag} cannot be used: this release has no .+", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (f"{_STARTED} --minio-version RELEASE.2024-07-16T23-46-41Z", "--minio-version has no effect: MinIO is never"),
        (f"{_STARTED} --mc-version RELEASE.2025-04-08T15-39-49Z", "--mc-version has no effect"),
        (f"{_STARTED} --minio-console-port 9002", "--minio-console-port has no effect"),
        (f"{_STARTED} --host 0.0.0.0", "the S3 server listens on this machine only"),
        ("--minio-port 9001", "--minio-port has no effect without --start-minio-server"),
    ],
)
def test_what_storage_flags_do_not_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, text: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without minio
    assert main(["check-config", *flags.split()]) == 0
    assert f"hypha-server: note: {text}" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["flags", "environment"])
def test_storage_flags_that_contradict_each_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """In the documented words; the environment counts as the command line does."""
    if source == "environment":
        monkeypatch.setenv("HYPHA_ENDPOINT_URL", "http://s3")
    flags = ["--endpoint-url=http://s3"] if source == "flags" else []
    assert main([_STARTED, *flags, *_KEYS.split()]) == 1
    assert capsys.readouterr().err == (
        "hypha-server: Cannot use --start-minio-server with S3 settings (--endpoint-url, --access-key-id, "
        "--secret-access-key). Please use either built-in Minio server or external S3 configuration.\n"
    )


def test_every_other_flag_is_in_the_table() -> None:
    tested = {flags.split()[0] for flags in (*_WITHOUT_EFFECT, *_REFUSED)}
    assert tested == {"--" + name.replace("_", "-") for name in NAMES}


@pytest.mark.parametrize("value", ["true", "1", "yes", "y", "on", "TRUE"])
def test_switches_in_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """For settings and for other flags alike."""
    monkeypatch.setenv("HYPHA_ENABLE_LOCAL_AUTH", value)
    assert main(["check-config"]) == 0
    assert "enable_local_auth = true  (environment HYPHA_ENABLE_LOCAL_AUTH)" in capsys.readouterr().out
    monkeypatch.setenv("HYPHA_ENABLE_MCP", value)
    assert main(["check-config"]) == 1
    assert "HYPHA_ENABLE_MCP cannot be used" in capsys.readouterr().err


def test_lists_in_the_environment(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Separated by blanks, also in .env; a flag wins."""
    (tmp_path / ".env").write_text("HYPHA_STARTUP_FUNCTIONS=a.py:f b:g\n")
    assert main(["check-config"]) == 0
    assert "startup_functions = a.py:f b:g  (environment HYPHA_STARTUP_FUNCTIONS)" in capsys.readouterr().out
    assert main(["check-config", "--startup-functions", "c:h"]) == 0
    assert "startup_functions = c:h  (flag --startup-functions)" in capsys.readouterr().out
    os.environ.pop("HYPHA_STARTUP_FUNCTIONS", None)  # main() has put it there


def test_lists_in_the_configuration_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "hypha.toml").write_text('startup_functions = ["a b.py:f", "b:g"]\n')
    assert main(["check-config", "--config", "hypha.toml"]) == 0
    assert "startup_functions = 'a b.py:f' b:g  (file hypha.toml)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a/b", "hypha-auth", "a b:c", "client-http-x"])
def test_server_id_is_a_client_id(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["check-config", f"--server-id={name}"]) == 1
    assert "server_id must" in capsys.readouterr().err


def test_the_same_from_the_environment() -> None:
    """A switch counts where it is on."""
    assert review({}, {"HYPHA_ENABLE_MCP": "false", "HYPHA_REDIS_URI": ""}) == []
    assert "HYPHA_REDIS_URI has no effect" in review({}, {"HYPHA_REDIS_URI": "redis://x"})[0]
    with pytest.raises(ConfigurationError, match="HYPHA_ENABLE_MCP cannot be used"):
        review({}, {"HYPHA_ENABLE_MCP": "true"})


def test_sqlite_is_refused_with_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--database-uri", "sqlite+aiosqlite:///x.db"]) == 1
    assert "SQLite" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--prot", "--redis"])
def test_unknown_flag_is_refused(flag: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([flag, "1"])
    assert caught.value.code == 2


def test_environment_file(tmp_path: Path) -> None:
    """The nearest .env of the tree; what is set already wins."""
    (tmp_path / ".env").write_text("# ours\nexport A=1\nB='two words'\nC=3 # three\n\nD=\n")
    (tmp_path / "below").mkdir()
    environ = {"A": "kept"}
    assert load_environment_file(environ, tmp_path / "below") == tmp_path / ".env"
    assert environ == {"A": "kept", "B": "two words", "C": "3", "D": ""}


def test_environment_file_with_a_mistake(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nB\n")
    with pytest.raises(ConfigurationError, match=r"\.env:2: not of the form"):
        load_environment_file({}, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of somebody else")
def test_environment_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1")
    os.chown(tmp_path / ".env", 12345, 12345)
    environ: dict[str, str] = {}
    load_environment_file(environ, tmp_path)
    assert environ == {}


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["uvicorn", "hypha.server:app"], {}, ("127.0.0.1", 8000)),
        (["uvicorn", "hypha.server:app", "--host", "::1", "--port=9"], {}, ("::1", 9)),
        (["hypercorn", "-b", "0.0.0.0:9", "hypha.server:app"], {}, ("0.0.0.0", 9)),
        (["uvicorn", "hypha.server:app"], {"HYPHA_PORT": "9527", "HYPHA_HOST": "a"}, ("a", 9527)),
        (["uvicorn", "--port", "9"], {"HYPHA_PORT": "9"}, ("127.0.0.1", 9)),
        (["uvicorn"], {"HYPHA_PORT": "tcp://10.0.0.1:9"}, ("127.0.0.1", 8000)),
    ],
)
def test_where_an_asgi_server_listens(argv: list[str], environ: dict[str, str], expected: tuple[str, int]) -> None:
    assert listening_at(argv, environ) == expected


def test_asgi_server_and_environment_disagree() -> None:
    with pytest.raises(ValueError, match="HYPHA_PORT=1 contradicts"):
        listening_at(["uvicorn", "--port", "2"], {"HYPHA_PORT": "1"})


def test_generate_token(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A token that the cluster of a data directory accepts."""
    data = DataDirectory(tmp_path / "d")
    secret = data.open().jwt_secret
    flags = ["--workspace", "lab", "--permission", "admin", "--scope", "other#r", "--user-id", "me", "--client-id", "c"]
    assert main(["generate-token", "--data-dir", str(data.path), *flags, "--role", "user", "--email", "me@x"]) == 0
    principal = TokenCodec(secret).verify(capsys.readouterr().out.strip()).principal
    assert (principal.id, principal.email, principal.roles) == ("me", "me@x", ("user",))
    assert principal.permission("lab") is Permission.ADMIN
    assert principal.permission("other") is Permission.READ
    assert principal.scope.client_id == "c"
    data.close()


def test_generate_token_without_a_cluster(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["generate-token", "--data-dir", str(tmp_path / "absent")]) == 1
    assert "holds no secrets of a cluster" in capsys.readouterr().err
