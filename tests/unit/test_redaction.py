from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest

from hypha_common.errors import ConfigurationError
from hypha_common.redaction import keep_secrets_out, without_secrets
from hypha_common.settings import Settings

_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/rpc?client_id=a&reconnection_token=s3cret&x=1", "/rpc?client_id=a&reconnection_token=********&x=1"),
        ('"GET /login?key=s3cret HTTP/1.1"', '"GET /login?key=******** HTTP/1.1"'),
        ("/oauth/callback?Code=s3cret&STATE=s3cret", "/oauth/callback?Code=********&STATE=********"),
        (f"it failed: Bearer {_JWT}, sorry", "it failed: Bearer ********, sorry"),
        ("/a?token_type=bearer&monkey=1&q=key=2", "/a?token_type=bearer&monkey=1&q=key=2"),
        ("nothing here", "nothing here"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ('%s - "%s %s HTTP/%s" %d', ("1.2.3.4:5", "GET", "/rpc?token=s3cret", "1.1", 200)),
        ("%(h)s %(r)s %(s)s", ({"h": "1.2.3.4", "r": "GET /rpc?token=s3cret 100%", "s": 200},)),
    ],
)
def test_access_logs_are_masked(message: str, args: tuple[object, ...]) -> None:
    """Of uvicorn, which gives a tuple, and hypercorn, which gives a mapping; however often that is asked for."""
    logger, stream = logging.getLogger("tests.access"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        keep_secrets_out(["tests.access"])
        keep_secrets_out(["tests.access"])
        logger.info(message, *args)
    finally:
        logger.removeHandler(handler)
    line = stream.getvalue()
    assert "token=********" in line
    assert "1.2.3.4" in line
    assert "s3cret" not in line


_CRASH = """
import structlog
from hypha_common.settings import Settings
from hypha_common.telemetry import configure_logging
configure_logging(Settings.load({"log_format": "%s"}, environ={}), "test")
def fail(token):
    raise RuntimeError(f"it failed with {token}")
try:
    fail(".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2lnbmF0dXJl"]))
except RuntimeError:
    structlog.get_logger().exception("crashed", given="/rpc?token=s3cret")
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_crashes_are_logged_without_secrets(log_format: str) -> None:
    """Neither in what an exception says nor among the variables of the functions it came through."""
    done = subprocess.run([sys.executable, "-c", _CRASH % log_format], capture_output=True, text=True, check=True)
    assert "RuntimeError: it failed with ********" in done.stderr
    assert "/rpc?token=********" in done.stderr
    assert "eyJ" not in done.stderr.replace('["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJ4In0", "c2lnbmF0dXJl"]', "")


def test_what_is_wrong_with_a_secret_is_said_without_it() -> None:
    for name in ("jwt_secret", "database_url", "nats_password"):
        with pytest.raises(ConfigurationError, match=f"{name} must be of type str") as caught:
            Settings.load({name: 1234567890}, environ={})
        assert "1234567890" not in str(caught.value)
