from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hypha_common.errors import HyphaError, Unavailable
from hypha_common.subjects import role_verb
from hypha_gateway.coverage import look

from .openapi import Answer, Operation, describes
from .openapi.schemas import reference

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["Readiness", "health", "liveness", "metrics", "readiness"]

PING_TIMEOUT_S = 2.0
REMEMBERED_S = 1.0

_STARTED = time.monotonic()
_NO_STORE = {"Cache-Control": "no-store"}


class Readiness:
    """
    Whether this gateway can serve: its bus, the workspace service and the auth service.

    The verdict is remembered for a second and formed once for all who ask meanwhile, so probing costs nothing.

    """

    def __init__(
        self, check: Callable[[], Awaitable[dict[str, str]]], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self._now = now
        self._formed = float("-inf")
        self._verdict: tuple[bool, dict[str, str] | str] = (False, "not checked yet")
        self._lock = asyncio.Lock()

    async def verdict(self) -> tuple[bool, dict[str, str] | str]:
        """Return (ready, details or the reason why not)."""
        async with self._lock:
            if self._now() - self._formed >= REMEMBERED_S:
                try:
                    self._verdict = (True, await self._check())
                except HyphaError as error:
                    self._verdict = (False, error.message)
                self._formed = self._now()
            return self._verdict


async def check_gateway(state: GatewayState) -> dict[str, str]:
    """Return what is ready. Raises a HyphaError naming what is not."""
    if not state.bus.is_connected:
        raise Unavailable("event_bus: not connected")
    if state.bus.missing:
        raise Unavailable(f"event_bus: {'; '.join(state.bus.missing)}")
    if not state.revocations_known.is_set():
        raise Unavailable("auth: revoked tokens are not known yet")
    absent = {"artifacts": "off" if state.settings.disable_s3 else "away", "apps": "off"}
    others = {role: asyncio.create_task(_other(state, role, word)) for role, word in absent.items()}
    try:
        store, _ = await asyncio.gather(_store(state), _auth(state))
    except HyphaError:
        for asked in others.values():
            asked.cancel()
        raise
    told = {role: await asked for role, asked in others.items()}
    return {"store": store, "auth": "ready", "event_bus": "ready", "pubsub": "healthy", **told}


async def _store(state: GatewayState) -> str:
    """Return how it is with workspaces. Raises Unavailable where none can be served."""
    coverage = await look(state.bus, "workspace", timeout=PING_TIMEOUT_S)
    if coverage.none:
        raise Unavailable(f"store: {coverage.reason}")
    return str(coverage)


async def _other(state: GatewayState, role: str, absent: str) -> str:
    """
    Return how it is with files, or apps. Calls do without, and a cluster may have none: no reason to send none here.

    ``absent`` is the word where nobody is there.

    """
    coverage = await look(state.bus, role, timeout=PING_TIMEOUT_S)
    return absent if coverage.nobody else str(coverage)


async def _auth(state: GatewayState) -> None:
    try:
        await state.bus.request(role_verb("auth", 0, "ready"), {}, timeout=PING_TIMEOUT_S)
    except HyphaError as error:
        raise Unavailable(f"auth: {error.message}") from None


@describes(
    Operation(
        "Whether calls can be served",
        {200: Answer.json("Yes", reference("Health")), 503: Answer.json("No, and why not", reference("Health"))},
        tag="operation",
    )
)
async def readiness(request: Request) -> Response:
    """Answer 200 while calls can be served, else 503; balancers take the gateway out of rotation meanwhile."""
    app = request.app
    if not hasattr(app.state, "readiness"):
        app.state.readiness = Readiness(lambda: check_gateway(app.state.gateway))
    # At once, whatever is remembered: every connection that still comes is one that has to leave again.
    draining = app.state.gateway.draining
    ready, detail = (False, "draining") if draining else await app.state.readiness.verdict()
    body = {"status": "OK" if ready else "DOWN", "detail": detail}
    return JSONResponse(body, status_code=200 if ready else 503, headers=_NO_STORE)


@describes(Operation("Whether the process runs", {200: Answer.json("Yes", reference("Health"))}, tag="operation"))
async def liveness(request: Request) -> Response:
    """Answer 200 as long as the event loop runs: a dependency that is away is no reason to kill this process."""
    state: GatewayState = request.app.state.gateway
    connected = "connected" if state.bus.is_connected else "disconnected"
    detail = {"event_loop": "running", "event_bus": connected}
    return JSONResponse({"status": "OK", "detail": detail}, headers=_NO_STORE)


@describes(
    Operation("What an operator looks at first", {200: Answer.json("State", reference("Diagnostics"))}, tag="operation")
)
async def health(request: Request) -> Response:
    """Answer with what an operator looks at first; never with anything about single users."""
    app = request.app
    state: GatewayState = app.state.gateway
    body: dict[str, Any] = {
        "timestamp": datetime.now(UTC).isoformat(),
        "status": "HEALTHY" if state.bus.is_connected else "WARNING",
        "issues": [] if state.bus.is_connected else ["the bus is not connected"],
        "uptime_seconds": round(time.monotonic() - _STARTED, 1),
        "memory": {"rss_mb": _resident_mb()},
        "tasks": {"total": len(asyncio.all_tasks())},
        "event_bus": {"connected": state.bus.is_connected},
    }
    return JSONResponse(body, headers=_NO_STORE)


@describes(
    Operation("Metrics, for Prometheus", {200: Answer("Metrics", {"text/plain": {"type": "string"}})}, tag="operation")
)
async def metrics(request: Request) -> Response:
    """Answer with the process's metrics in the Prometheus text format."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE})


def _resident_mb() -> float | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
