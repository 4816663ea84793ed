from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hypha_common import health as health_of
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
    # At once, whatever is remembered: every connection that still comes is one that has to leave again.
    draining = request.app.state.gateway.draining
    ready, detail = (False, "draining") if draining else await _readiness_of(request).verdict()
    body = {"status": "OK" if ready else "DOWN", "detail": detail}
    return JSONResponse(body, status_code=200 if ready else 503, headers=_NO_STORE)


@describes(
    Operation(
        "Whether the process runs",
        {200: Answer.json("Yes", reference("Health")), 503: Answer.json("Not as it should", reference("Health"))},
        tag="operation",
    )
)
async def liveness(request: Request) -> Response:
    """Answer 200 as long as the event loop runs: a dependency that is away is no reason to kill this process."""
    state: GatewayState = request.app.state.gateway
    status, body = health_of.liveness({"event_bus": "connected" if state.bus.is_connected else "disconnected"})
    return JSONResponse(body, status, headers=_NO_STORE)


@describes(
    Operation(
        "What an operator looks at first",
        {
            200: Answer.json("State", reference("Diagnostics")),
            503: Answer.json("State, where nothing can be served", reference("Diagnostics")),
        },
        tag="operation",
    )
)
async def health(request: Request) -> Response:
    """Answer with what an operator looks at first; never with anything about single users."""
    state: GatewayState = request.app.state.gateway
    critical = [] if state.bus.is_connected else [health_of.BUS_AWAY]
    ready, detail = (True, {}) if critical else await _readiness_of(request).verdict()
    warnings = [*(["draining"] if state.draining else []), *([] if ready else [str(detail)])]
    table = request.app.state.owner.table
    status, body = health_of.diagnosis(
        "gateway",
        state.bus.instance,
        critical=critical,
        warnings=warnings,
        connections={
            "active": len(table),
            "total_created": table.added,
            "total_closed": table.added - len(table),
        },
        event_bus={"connected": state.bus.is_connected},
        services=detail if ready else {},
    )
    return JSONResponse(body, status, headers=_NO_STORE)


@describes(
    Operation("Metrics, for Prometheus", {200: Answer("Metrics", {"text/plain": {"type": "string"}})}, tag="operation")
)
async def metrics(request: Request) -> Response:
    """Answer with the process's metrics in the Prometheus text format."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE})


def _readiness_of(request: Request) -> Readiness:
    app = request.app
    if not hasattr(app.state, "readiness"):
        app.state.readiness = Readiness(lambda: check_gateway(app.state.gateway))
    readiness: Readiness = app.state.readiness
    return readiness
