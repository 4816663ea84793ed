from __future__ import annotations

from pathlib import Path

import pytest

from hypha_common.errors import ConfigurationError
from hypha_common.settings import OPTIONS, Partitions, Settings, unknown_environment


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    """The precedence that every role has."""
    file = tmp_path / "hypha.toml"
    file.write_text('port = 1001\nhost = "0.0.0.0"\nws_idle_timeout = 5\n')
    settings = Settings.load({"port": "1003"}, environ={"HYPHA_PORT": "1002", "HYPHA_HOST": "::1"}, file=file)
    assert (settings.port, settings.host, settings.ws_idle_timeout) == (1003, "::1", 5.0)
    assert settings.sources["port"] == "flag --port"
    assert settings.sources["host"] == "environment HYPHA_HOST"
    assert settings.sources["ws_idle_timeout"] == f"file {file}"


def test_flag_that_was_not_given_does_not_count() -> None:
    """None stands for a flag that the command line did not hold."""
    assert Settings.load({"port": None}, environ={"HYPHA_PORT": "81"}).port == 81


def test_file_named_by_environment(tmp_path: Path) -> None:
    """HYPHA_CONFIG names the file where no flag does."""
    (tmp_path / "a.toml").write_text("port = 7")
    assert Settings.load(environ={"HYPHA_CONFIG": str(tmp_path / "a.toml")}).port == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prot = 1", r"unknown setting 'prot' \(did you mean port\?\)"),
        ("port = 'x'", "port must be a whole number, not 'x'"),
        ("port = true", "port must be a whole number"),
        ("port = 70000", "port must be between 0 and 65535"),
        ("[server]\nport = 1", "unknown setting 'server'"),
        ("port =", "a.toml"),
    ],
)
def test_file_with_a_mistake_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    """A file is written by hand: each mistake in it is told, with the nearest name."""
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=sentence):
        Settings.load(environ={}, file=file)


def test_unknown_flag_is_refused() -> None:
    """Whoever passes flags must not lose one silently."""
    with pytest.raises(ConfigurationError, match=r"unknown setting 'hots' \(did you mean host\?\)"):
        Settings.load({"hots": "x"}, environ={})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("HYPHA_JWT_SECRET", "short", "at least 32 bytes"),
        ("HYPHA_ROOT_TOKEN", "x" * 31, "at least 32 characters"),
        ("HYPHA_ROOT_TOKEN", "my-root-" + "x" * 40, "must not contain 'root'"),
        ("HYPHA_DATABASE_URL", "sqlite:///hypha.db", "SQLite"),
        ("HYPHA_DATABASE_URL", "mysql://a:secret-word@b/c", "postgresql://"),
        ("HYPHA_NATS_URL", "http://x", "nats://"),
        ("HYPHA_BASE_PATH", "hypha", "must begin with '/'"),
        ("HYPHA_PUBLIC_BASE_URL", "hypha.example", "http://"),
        ("HYPHA_LOGLEVEL", "loud", "must be one of DEBUG"),
        ("HYPHA_EXPOSE_DETAILED_ERRORS", "maybe", "must be true or false"),
        ("HYPHA_WS_IDLE_TIMEOUT", "nan", "must be a number"),
        ("HYPHA_WS_IDLE_TIMEOUT", "-1", "must be at least 0"),
        ("HYPHA_DATABASE_PARTITIONS", "0-31=postgresql://a/b", "every partition"),
        ("HYPHA_DATABASE_PARTITIONS", "0-63=sqlite://", "SQLite"),
    ],
)
def test_bad_value_is_refused_with_its_source(name: str, value: str, sentence: str) -> None:
    """A value that cannot work stops the process before it does anything, and is not repeated where it is secret."""
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        Settings.load(environ={name: value})
    assert name in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_long_root_token_may_be_anything() -> None:
    """From 64 characters on, no word in it matters (contract 01 §4.4)."""
    token = "root-admin-" + "x" * 53
    assert Settings.load(environ={"HYPHA_ROOT_TOKEN": token}).root_token == token


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("JWT_SECRET", "jwt_secret", "x" * 32, "x" * 32),
        ("MAXIMUM_LOGIN_TIME", "maximum_login_time", "7", 7.0),
        ("AUTH0_DOMAIN", "auth0_domain", "example.org", "example.org"),
        ("HYPHA_LOGLEVEL", "log_level", "info", "INFO"),
        ("ALLOW_ORIGINS", "allow_origins", "https://a,https://b", ("https://a", "https://b")),
        ("HYPHA_DATABASE_URI", "database_url", "postgresql+asyncpg://a/b", "postgresql://a/b"),
        ("HYPHA_EXPOSE_DETAILED_ERRORS", "expose_detailed_errors", "Yes", True),
    ],
)
def test_names_that_other_servers_use(name: str, field: str, value: str, expected: object) -> None:
    """Environments written for other Hypha servers keep working (contract 01 §6)."""
    assert getattr(Settings.load(environ={name: value}), field) == expected


def test_empty_variable_is_not_set() -> None:
    """Compose files write an empty value where nothing is meant."""
    assert Settings.load(environ={"HYPHA_PORT": "", "HYPHA_ALLOW_ORIGINS": ""}) == Settings.load(environ={})


def test_secret_from_a_file(tmp_path: Path) -> None:
    """Orchestrators mount secrets as files."""
    (tmp_path / "secret").write_text("s" * 40 + "\n")
    settings = Settings.load(environ={"HYPHA_JWT_SECRET_FILE": str(tmp_path / "secret")})
    assert settings.jwt_secret == "s" * 40
    assert unknown_environment({"HYPHA_JWT_SECRET_FILE": "x"}) == []
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.load(environ={"HYPHA_JWT_SECRET_FILE": str(tmp_path / "absent")})


def test_secrets_are_never_shown() -> None:
    """Neither in what is printed at start nor in a repr that ends in a log."""
    environ = {
        "HYPHA_JWT_SECRET": "s3cret" * 10,
        "HYPHA_DATABASE_URL": "postgresql://me:s3cret@db/x",
        "HYPHA_DATABASE_PARTITIONS": "0-31=postgresql://me:s3cret@a/x,32-63=postgresql://me:s3cret@b/x",
        "HYPHA_NATS_PASSWORD": "s3cret",
    }
    settings = Settings.load(environ=environ)
    shown = {name: value for role in ("gateway", "workspace") for name, value, _ in settings.effective(role)}
    assert "s3cret" not in repr(shown)
    assert shown["database_url"] == "postgresql://me:********@db/x"
    assert "s3cret" not in repr(settings)


def test_effective_holds_what_a_role_reads() -> None:
    """A gateway does not print the database it never opens."""
    names = {name for name, _, _ in Settings.load(environ={}).effective("gateway")}
    assert "port" in names
    assert "database_url" not in names


def test_unknown_environment_is_told_and_not_refused() -> None:
    """Platforms inject names of our prefix; a typing mistake deserves the nearest match."""
    environ = {"HYPHA_PROT": "1", "HYPHA_GATEWAY_PORT": "tcp://10.0.0.1:80", "HYPHA_TOKEN": "t", "OTHER": "x"}
    sentences = unknown_environment(environ)
    assert len(sentences) == 2
    assert any("did you mean HYPHA_PORT?" in sentence for sentence in sentences)


def test_kubernetes_service_link_is_no_port() -> None:
    """A Service named `hypha` gives every pod HYPHA_PORT=tcp://…"""
    environ = {"HYPHA_PORT": "tcp://10.96.0.7:9527"}
    assert Settings.load(environ=environ).port == 9527
    assert "service link" in unknown_environment(environ)[0]


def test_addresses_are_completed() -> None:
    """The base path is normalized, and the public address follows port and path unless it is given."""
    settings = Settings.load({"port": 80, "base_path": "/hub/"}, environ={})
    assert settings.base_path == "/hub"
    assert settings.public_base_url == settings.local_base_url == "http://127.0.0.1:80/hub"
    assert settings.replace(port=81).public_base_url == "http://127.0.0.1:81/hub"
    given = Settings.load(environ={"HYPHA_PUBLIC_BASE_URL": "https://hypha.example/"})
    assert given.replace(port=81).public_base_url == "https://hypha.example"


def test_environment_makes_the_same_settings() -> None:
    """The supervisor hands its settings to its children."""
    flags = {"port": 1, "allow_origins": ["a", "b"], "expose_detailed_errors": True, "ws_idle_timeout": 0.5}
    settings = Settings.load({**flags, "public_base_url": "https://x"}, environ={"HYPHA_JWT_SECRET": "j" * 32})
    assert Settings.load(environ=settings.environment()) == settings


def test_partitions() -> None:
    """One database by default; one head for each database where there are several."""
    one = Settings.load(environ={"HYPHA_DATABASE_URL": "postgresql://a/b"})
    assert one.partitions == (Partitions(0, 63, "postgresql://a/b"),)
    assert one.partition_heads() == (0,)
    text = "32-62=postgresql://b/x, 0-31=postgresql://a/x, 63=postgresql://a/x"
    several = Settings.load(environ={"HYPHA_DATABASE_PARTITIONS": text})
    assert [(run.first, run.last) for run in several.partitions] == [(0, 31), (32, 62), (63, 63)]
    assert several.partition_heads() == (0, 32)


def test_require_names_what_is_missing() -> None:
    """The sentence says how to set it; a secret has no flag to name."""
    settings = Settings.load(environ={})
    with pytest.raises(ConfigurationError, match="set HYPHA_NATS_URL or --nats-url"):
        settings.require("port", "nats_url")
    with pytest.raises(ConfigurationError, match=r"set HYPHA_JWT_SECRET \("):
        settings.require("jwt_secret")


def test_replace_checks() -> None:
    """A computed value is held to the same rules."""
    with pytest.raises(ConfigurationError, match="port"):
        Settings.load(environ={}).replace(port=-1)


def test_every_option_is_explained_and_has_a_name_of_its_own() -> None:
    """The table is the documentation."""
    names = [name for row in OPTIONS.values() for name in row.environment]
    assert len(names) == len(set(names))
    assert all(row.help for row in OPTIONS.values())
