from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from . import faults, trace
from .health import BUS_AWAY, diagnosis, liveness
from .process_metrics import LoopWatch
from .redaction import keep_secrets_out, without_secrets
from .version import __version__

if TYPE_CHECKING:
    from structlog.typing import Processor

    from .settings import Settings

__all__ = ["METRICS_TYPE", "LoopWatch", "StatusPage", "configure_logging", "metrics_text", "serve_status"]

METRICS_TYPE = CONTENT_TYPE_LATEST

_REQUEST_TIMEOUT_S = 5.0
_MAX_REQUEST_BYTES = 8192
# They tell at INFO what we tell ourselves, with the addresses of requests, and at DEBUG every frame and header: tokens
# and passwords among them.
_NOISY = (
    *("asyncio", "authlib", "hpack", "httpcore", "httpx", "hypercorn.access", "nats"),
    *("websockets", "RPC", "http-client", "websocket-client"),
)

Readiness = Callable[[], "list[str]"]  # what is missing, in words; empty: ready


def configure_logging(settings: Settings, role: str, instance: str = "") -> None:
    """
    Send structlog and the standard library through one handler to stderr.

    Every line names role and instance, and the request that it belongs to as ``trace_id``.

    Call it once, before anything logs.

    """
    level: int = getattr(logging, settings.log_level)
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add(role=role, **({"instance": instance} if instance else {})),
        _trace_id,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(console), _masked],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # What users were refused is found by its id at any level but those that ask for silence.
    logging.getLogger(faults.NAME).setLevel(level if level >= logging.ERROR else logging.INFO)
    keep_secrets_out()
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _renderers(console: bool) -> list[Processor]:
    if console:
        # Not rich's tracebacks, which show local variables: passwords and tokens among them.
        return [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _masked(_logger: Any, _method: str, line: Any) -> str:
    """The last line of defence: a token in the text of somebody's exception stays out of the log."""
    return without_secrets(line)


def _add(**values: str) -> Processor:
    def add(_logger: Any, _method: str, event: Any) -> Any:
        for key, value in values.items():
            event.setdefault(key, value)
        return event

    return add


def _trace_id(_logger: Any, _method: str, event: Any) -> Any:
    # Read when a line is written, rather than bound for each request: most requests write none.
    if known := trace.trace_id():
        event.setdefault("trace_id", known)
    return event


def metrics_text() -> bytes:
    """Return the body of ``/metrics``; its content type is METRICS_TYPE."""
    return generate_latest()


class StatusPage:
    """
    ``/metrics``, ``/health``, ``/health/liveness`` and ``/health/readiness`` for a role that has no HTTP of its own.

    Ready is where ``readiness()`` finds nothing missing; for the others see :mod:`hypha_common.health`.

    """

    def __init__(self, readiness: Readiness, *, role: str, instance: str) -> None:
        self._readiness = readiness
        self._role = role
        self._instance = instance

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        if path == "/metrics":
            return 200, METRICS_TYPE, metrics_text()
        if path == "/health/liveness":
            return _json(*liveness())
        missing = self._readiness()
        if path == "/health/readiness":
            if missing:
                return _json(503, {"status": "DOWN", "detail": "; ".join(missing)})
            return _json(200, {"status": "OK", "detail": {"role": self._role, "version": __version__}})
        if path == "/health":
            away = [reason for reason in missing if reason == BUS_AWAY]
            others = [reason for reason in missing if reason != BUS_AWAY]
            connected = {"connected": not away}
            return _json(*diagnosis(self._role, self._instance, critical=away, warnings=others, event_bus=connected))
        return _json(404, {"detail": "Not Found"})

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one GET request and close."""
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                words = head.split(b"\r\n", 1)[0].split(b" ")
                path = words[1].decode("latin-1").partition("?")[0] if len(words) == 3 else ""
                status, content_type, body = self.answer(path)
                headers = f"HTTP/1.1 {status} \r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                writer.write(headers.encode() + b"Connection: close\r\n\r\n" + body)
                await writer.drain()
        writer.close()


def _json(status: int, body: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body, separators=(",", ":")).encode()


async def serve_status(
    settings: Settings, readiness: Readiness, *, role: str, instance: str = ""
) -> asyncio.Server | None:
    """Serve a StatusPage at ``metrics_host:metrics_port``; None where the port is 0."""
    if not settings.metrics_port:
        return None
    page = StatusPage(readiness, role=role, instance=instance)
    return await asyncio.start_server(
        page.connected, settings.metrics_host, settings.metrics_port, limit=_MAX_REQUEST_BYTES
    )
