"""What a browser worker reads: variables, manifests, its command line; and what it keeps of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hypha.workers.log import SessionLog
from hypha_browser_worker.chromium import find_chromium
from hypha_browser_worker.cli import run_command
from hypha_browser_worker.page_options import page_options, pages_of_environment
from hypha_common.errors import BadRequest, ConfigurationError
from hypha_common.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the person who runs the tests."""
    import os

    for name in [name for name in os.environ if name.startswith(("HYPHA_", "PLAYWRIGHT_"))]:
        monkeypatch.delenv(name)


def test_pages_by_default() -> None:
    assert page_options({}, {}) == {
        "accept_downloads": False,
        "viewport": {"width": 1280, "height": 720},
        "service_workers": "block",
    }


def test_pages_as_the_operator_says() -> None:
    given = {
        "BYPASS_CSP": "true",
        "IGNORE_HTTPS_ERRORS": "0",
        "PERMISSIONS": "geolocation, clipboard-read",
        "LOCALE": "de-DE",
        "GEOLOCATION_LATITUDE": "59.3",
        "GEOLOCATION_LONGITUDE": "18.1",
        "VIEWPORT_WIDTH": "800",
        "DEVICE_SCALE_FACTOR": "2",
        "COLOR_SCHEME": "dark",
        "JAVASCRIPT_ENABLED": "yes",
        "HTTP_USERNAME": "me",
        "HTTP_PASSWORD": "secret",
        "EXTRA_HTTP_HEADERS": '{"X-One": "operator"}',
        "USER_AGENT": "",
    }
    operators = pages_of_environment({f"PLAYWRIGHT_{name}": value for name, value in given.items()})
    assert operators == {
        "bypass_csp": True,
        "ignore_https_errors": False,
        "permissions": ["geolocation", "clipboard-read"],
        "locale": "de-DE",
        "geolocation": {"latitude": 59.3, "longitude": 18.1, "accuracy": 0},
        "viewport": {"width": 800, "height": 720},
        "device_scale_factor": 2.0,
        "color_scheme": "dark",
        "java_script_enabled": True,
        "http_credentials": {"username": "me", "password": "secret"},
        "extra_http_headers": {"X-One": "operator"},
    }
    manifest = {"ignore_https_errors": True, "extra_http_headers": {"X-One": "app", "X-Two": "app"}}
    options = page_options(operators, manifest)
    assert options["ignore_https_errors"] is True
    assert options["extra_http_headers"] == {"X-One": "operator", "X-Two": "app"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BYPASS_CSP", "perhaps"),
        ("VIEWPORT_WIDTH", "-1"),
        ("GEOLOCATION_LATITUDE", "north"),
        ("COLOR_SCHEME", "pink"),
        ("EXTRA_HTTP_HEADERS", "X: y"),
        ("EXTRA_HTTP_HEADERS", '{"X": 1}'),
    ],
)
def test_variables_that_say_nothing(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        pages_of_environment({f"PLAYWRIGHT_{name}": value})


@pytest.mark.parametrize("headers", ["X: y", {"X": 1}, ["X"]])
def test_headers_of_a_manifest(headers: Any) -> None:
    with pytest.raises(BadRequest, match="extra_http_headers"):
        page_options({}, {"extra_http_headers": headers})


def test_a_log_keeps_the_newest() -> None:
    """At most 2048 entries, each of them cut, and none with a secret."""
    log = SessionLog(secrets=("s3cret",))
    for number in range(3000):
        log.add("console", f"{number} s3cret")
    page = log.page(None, 0, 1)
    assert (page["total"], page["items"]) == (2048, [{"type": "console", "content": "952 <token>"}])
    log.add("error", "ü" * 10_000)
    (entry,) = log.texts("error")
    assert entry == "ü" * 4096 + " … (cut)"
    for _ in range(2048):
        log.add("console", "x" * 8000)
    assert log.page(None, 0, None)["total"] == 4 * 2**20 // 8000
    log.add("error", "the last word")
    log.shrink(64 * 2**10)
    assert log.page(None, 0, None)["total"] == 9
    assert log.texts("error") == ["the last word"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--server-url or HYPHA_SERVER_URL must be"),
        (["--server-url=ftp://x"], "--server-url or HYPHA_SERVER_URL must be"),
        (["--server-url=http://x", "--visibility=unlisted"], "--visibility must be one of"),
        (["--server-url=http://x", "--browser-executable=/none"], "browser_executable: /none is no program"),
        (["--server-url=http://x", "--max-browser-sessions=0"], "max_browser_sessions must"),
    ],
)
def test_a_command_line_that_cannot_be(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    """Status 1 and one sentence."""
    assert run_command(arguments) == 1
    assert text in capsys.readouterr().err.splitlines()[-1]


def test_a_token_from_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HYPHA_TOKEN_FILE", str(tmp_path / "none"))
    assert run_command(["check-config", "--server-url=http://x"]) == 1
    assert "HYPHA_TOKEN_FILE" in capsys.readouterr().err


def test_where_there_is_no_chromium(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence says what to do; what Playwright has installed is used."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    settings = Settings.load({}, environ={})
    with pytest.raises(ConfigurationError, match=r"There is no Chromium .*`playwright install chromium`"):
        find_chromium(settings)
    (tmp_path / "chromium-1234").mkdir()
    assert find_chromium(settings) is None
    (tmp_path / "chromium").touch(0o755)
    assert find_chromium(settings) == str(tmp_path / "chromium")
