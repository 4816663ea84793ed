from __future__ import annotations

import functools
import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Histogram
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from hypha_common import trace
from hypha_common.errors import BadRequest, Blocked, HyphaError, InternalError, PayloadTooLarge
from hypha_common.faults import note_fault
from hypha_common.settings import Settings
from hypha_gateway.addresses import origin_of, peer_address
from hypha_gateway.enforcement import check_blocked

from .apps.plain import PlainAnswer
from .apps.socket_answer import refuse
from .caller import identify_at_once, is_root, verified_of
from .compression import compressing, is_small
from .cors import CorsPolicy
from .denials import note_denial
from .files.exchange import AS_IT_IS
from .rate_limit import RateLimiter, request_address
from .request_span import begin_span, end_span
from .responses import Message, Receive, Scope, Send, discard, failure_body, send_body, send_error, told

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["HttpEdge"]

log = structlog.get_logger(__name__)

REQUESTS = Counter("http_requests", "HTTP requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "http_request_seconds",
    "Time until the head of an HTTP answer was sent",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
RATE_LIMITED = Counter("http_rate_limited", "HTTP requests refused for coming too fast")

_STATUSES = frozenset(map(int, HTTPStatus))  # apps may answer with others
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_STREAM = "/rpc"  # frames, most of them binary, each to be seen at once
_TOO_FAST = {"detail": "Rate limit exceeded. Please slow down."}
_REQUEST_ID = b"x-request-id"
_ASKED_ALL_THE_TIME = ("/health", "/metrics")


class HttpEdge:
    """
    What every HTTP request passes: rate limit, body size, CORS, compression, and the catch for errors nobody foresaw.

    One plain ASGI callable, because each layer more costs every call of a service.

    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._max_body_bytes = settings.max_message_bytes
        self._base_path = settings.base_path.rstrip("/")
        self._cors = CorsPolicy(settings.allow_origins)
        self._by_address = RateLimiter(rate=settings.http_rate_limit, burst=settings.http_burst_limit)
        self._by_identity = RateLimiter(
            rate=settings.http_authenticated_rate_limit, burst=settings.http_authenticated_burst_limit
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._pass_on(scope, receive, send)
            return
        headers = dict(scope["headers"])
        known = headers.get(trace.HEADER)
        path: str = scope["path"].removeprefix(self._base_path)
        if path.startswith(_ASKED_ALL_THE_TIME):
            context = trace.new(recorded=False)
        else:
            context = trace.incoming(None if known is None else known.decode("latin-1"))
        answer = _Answer(scope, receive, send, trace.trace_id(context), path)
        span: trace.Span | None = None
        if trace.is_sampled(context):
            span = begin_span(scope, context, root=known is None)
            context = context if span is None else span.context
        token = trace.use(context)
        try:
            await self._answer(scope, receive, answer, headers)
        finally:
            trace.leave(token)
            if span is not None:
                end_span(span, scope, answer.status)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer, headers: dict[bytes, bytes]) -> None:
        state: GatewayState = scope["app"].state.gateway
        origin = headers.get(b"origin")
        path = answer.path
        if origin is not None and not _is_app(path):  # apps say themselves who may read them
            if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                status, extra, body = self._cors.preflight(origin, headers.get(b"access-control-request-headers", b""))
                await send_body(answer, status, body, b"text/plain; charset=utf-8", extra)
                return
            answer.extra += self._cors.headers(origin)
        wait_s = 0.0 if path.startswith("/health") else self._wait(scope, headers)
        if wait_s:
            RATE_LIMITED.inc()
            retry_after = str(max(1, math.ceil(wait_s))).encode()
            await send_body(answer, 429, failure_body(_TOO_FAST), headers=[(b"retry-after", retry_after)])
            return
        error = self._unacceptable(scope["method"], path, headers)
        if error is not None:
            answer.extra.append((b"connection", b"close"))
        if error is None and len(state.blocks) and not path.startswith("/health"):
            error = await self._kept_out(state, scope)
        if error is not None:
            await discard(receive)
            await send_error(answer, error)
            return
        try:
            await self._app(scope, receive, answer)
        except Exception:  # the outer edge: whoever asked gets an answer, the operator the reason
            log.exception("http_request_failed", method=scope["method"], path=path)
            if answer.status:
                raise  # a broken answer must not look like a whole one
            await send_error(answer, InternalError("Internal server error"))

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold a websocket of an app to what is asked of requests; for the hub's own, see Handshake."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        known = dict(scope["headers"]).get(trace.HEADER)
        token = trace.use(trace.incoming(None if known is None else known.decode("latin-1")))
        try:
            await self._pass_websocket_on(scope, receive, send)
        finally:
            trace.leave(token)

    async def _pass_websocket_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: PlainAnswer | None = None
        if _is_app(scope["path"].removeprefix(self._base_path)):
            state: GatewayState = scope["app"].state.gateway
            if "\x00" in scope["path"]:
                answer = PlainAnswer(400, "Invalid path")
            elif self._wait(scope, dict(scope["headers"])):
                RATE_LIMITED.inc()
                answer = PlainAnswer(429, "Rate limit exceeded. Please slow down.")
            elif len(state.blocks) and (error := await self._kept_out(state, scope)) is not None:
                answer = PlainAnswer(error.status, error.message)
        if answer is None:
            await self._app(scope, receive, send)
        else:
            note_fault("app_request_failed", path=scope["path"], status=answer.status, error=answer.body.decode())
            await refuse(send, answer, can_explain="websocket.http.response" in (scope.get("extensions") or {}))

    def _unacceptable(self, method: str, path: str, headers: dict[bytes, bytes]) -> HyphaError | None:
        if "\x00" in path:  # no id holds it, and databases choke on it
            return BadRequest("Invalid path")
        length = headers.get(b"content-length", b"")
        if length and b"transfer-encoding" in headers:  # a proxy may have seen another end of it than we do
            return BadRequest("A body has one length: Content-Length or Transfer-Encoding, not both")
        # Files and what apps are sent flow through as they come; who keeps a body whole has a limit of its own.
        flows = method == "PUT" or _is_app(path)
        if length.isdigit() and int(length) > self._max_body_bytes and not flows:
            return PayloadTooLarge(f"The request body is larger than {self._max_body_bytes} bytes")
        return None

    async def _kept_out(self, state: GatewayState, scope: Scope) -> Blocked | None:
        """Return why a request is refused, where its user or its address is blocked; only asked while anybody is."""
        verified = verified_of(scope)
        try:
            address = peer_address(*origin_of(scope))
            check_blocked(state.blocks, None if verified is None else verified.principal, address)
        except Blocked as error:
            # Root's own token is not one of those that are understood at once.
            if verified is None and await is_root(state, scope):
                return None
            note_denial(state, scope, error)
            return error
        return None

    def _wait(self, scope: Scope, headers: dict[bytes, bytes]) -> float:
        """Count the request. Return 0, or the seconds that the caller should wait."""
        state: GatewayState = scope["app"].state.gateway
        if b"authorization" in headers or b"cookie" in headers or b"x-local-auth" in headers:
            verified = identify_at_once(state, scope)
            if verified is not None:
                parts = (verified.principal.id, verified.workspace, verified.client_id)
                return self._by_identity.take(":".join(part for part in parts if part))
        address = request_address(scope)
        if scope["path"].removeprefix(self._base_path).startswith("/s3/"):
            # Signed addresses stand for somebody who was known when they were made. Whether the signature is any good
            # is found out later, so they count by address, and apart: nobody gets more of anything else by them.
            return self._by_identity.take(f"s3:{address}")
        return self._by_address.take(address)


def _is_app(path: str) -> bool:
    parts = path.split("/", 3)
    return len(parts) == 4 and parts[2] in ("apps", "agent-skills")


class _Answer:
    """The ``send`` of one request: adds headers to the head of the answer, counts it, and compresses what is large."""

    __slots__ = ("_began", "_method", "_receive", "_scope", "_send", "extra", "path", "request_id", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str, path: str) -> None:
        method = scope["method"]
        self._method = method if method in _METHODS else "other"
        self._scope = scope
        self._receive = receive
        self._send = _without_body(send) if method == "HEAD" else send
        self._began = time.perf_counter()
        self.path = path  # without base path
        self.request_id = request_id
        self.extra: list[tuple[bytes, bytes]] = []
        self.status = 0  # until the answer begins

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = status = message["status"]
            headers = [*message.get("headers", ()), *self.extra]
            is_app = _is_app(self.path)
            if not is_app or not any(name == _REQUEST_ID for name, _ in headers):  # an app may have an id of its own
                headers.append((_REQUEST_ID, self.request_id.encode()))
            message["headers"] = headers
            if status >= 400 and not is_app:
                self._note(status)
            route = _route_of(self._scope)
            _count(self._method, route, status if status in _STATUSES else 0, time.perf_counter() - self._began)
            if not is_small(headers) and self.path != _STREAM and not self._scope.get(AS_IT_IS) and not is_app:
                self._send = await compressing(self._scope, self._receive, self._send)
        await self._send(message)

    def _note(self, status: int) -> None:
        """Write down what somebody is refused, with what that answer says."""
        of, detail = told.get()
        note_fault(
            "http_error",
            method=self._method,
            path=self.path,
            status=status,
            error=detail.rstrip().rpartition("\n")[2] if of == self.request_id else "",
            address=request_address(self._scope),
        )


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


def _route_of(scope: Scope) -> str:
    """Return the template of the route that was taken: paths are as many as there are callers, routes are few."""
    route = scope.get("route")
    return route.path if isinstance(route, (Mount, Route)) else "none"


# labels() takes a lock and builds a key; there are few of each.
_requests = functools.cache(REQUESTS.labels)
_seconds = functools.cache(SECONDS.labels)


def _count(method: str, route: str, status: int, seconds: float) -> None:
    _requests(method, route, str(status or "other")).inc()
    _seconds(route).observe(seconds)
