from __future__ import annotations

from hypha_common import trace
from hypha_common.errors import InternalError

from .responses import Scope

__all__ = ["begin_span", "end_span"]

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def begin_span(scope: Scope, context: str, *, root: bool) -> trace.Span | None:
    """Begin to record an HTTP request. Paths hold the ids of people's things: only the route's pattern is told."""
    method = scope["method"]
    attributes = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    return trace.start(method if method in _METHODS else "HTTP", trace.SERVER, attributes, context=context, root=root)


def end_span(span: trace.Span, scope: Scope, status: int) -> None:
    """Record that a request has been answered with ``status``; 0: it was broken off."""
    method = scope["method"] if scope["method"] in _METHODS else "HTTP"
    route = getattr(scope.get("route"), "path", "")
    known = {"http.route": route} if route else {}
    failed = InternalError(str(status)) if status >= 500 or not status else None
    span.end(failed, name=f"{method} {route}".rstrip(), **{"http.response.status_code": status, **known})
