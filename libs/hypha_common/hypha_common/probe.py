from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from .errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["KINDS", "probe"]

KINDS = ("readiness", "liveness")

_TIMEOUT_S = 3.0
_MAX_BYTES = 65536
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # who listens everywhere listens here
_WORDS = {"readiness": "ready", "liveness": "alive"}


def probe(settings: Settings, role: str, kind: str) -> str:
    """
    Ask the process of ``role`` beside this one, at its own port, and return a sentence.

    It is what containers are checked with, every few seconds: it imports next to nothing. Raises Unavailable where the
    answer is no, or none; ConfigurationError where there is no port to ask at.

    """
    host, port, prefix = _place(settings, role)
    status, body = _get(host, port, f"{prefix}/health/{kind}")
    if status != 200:
        raise Unavailable(f"the {role} service is not {_WORDS[kind]}: {_detail(body) or f'status {status}'}")
    return f"the {role} service is {_WORDS[kind]}"


def _place(settings: Settings, role: str) -> tuple[str, int, str]:
    """Return address, port and prefix of what a role tells about itself."""
    if role == "gateway":
        host, port, name, prefix = settings.host, settings.port, "port", settings.base_path.rstrip("/")
    else:
        host, port, name, prefix = settings.metrics_host, settings.metrics_port, "metrics_port", ""
    if not port:
        raise ConfigurationError(
            f"there is nothing to ask: {name} is 0; set HYPHA_{name.upper()} as the service has it"
        )
    return _ANYWHERE.get(host, host), port, prefix


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Return status and body of ``GET path``. Raises Unavailable where nobody answers."""
    shown = f"[{host}]" if ":" in host else host
    request = f"GET {path} HTTP/1.1\r\nHost: {shown}:{port}\r\nConnection: close\r\n\r\n"
    received = b""
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
            connection.sendall(request.encode())
            while len(received) < _MAX_BYTES and (data := connection.recv(_MAX_BYTES)):
                received += data
    except OSError as error:
        raise Unavailable(f"nobody answers at {shown}:{port}: {error.strerror or error}") from None
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise Unavailable(f"what answers at {shown}:{port} is no service of this cluster")
    return int(words[1]), body


def _detail(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return ""
    return str(told.get("detail", "")) if isinstance(told, dict) else ""
