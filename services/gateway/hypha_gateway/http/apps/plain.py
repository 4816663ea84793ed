from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.errors import HyphaError
from hypha_common.faults import note_fault
from hypha_gateway.http.denials import note_denial
from hypha_gateway.http.errors import describe_failure
from hypha_gateway.http.responses import RETRY_AFTER_S, Scope

from .faults import AppFault
from .headers import Headers

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["PlainAnswer", "failure"]


class PlainAnswer:
    """An answer of one line of text, which is how everything about web services is told (contract 03 §4.1)."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.body = text.encode(errors="replace")
        self.headers: Headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(self.body)).encode()),
        ]
        if status in (429, 503):
            self.headers.append((b"retry-after", RETRY_AFTER_S))


def failure(state: GatewayState, scope: Scope, error: HyphaError) -> PlainAnswer:
    """Return what tells why there is no answer of the service itself, and note who was refused."""
    note_denial(state, scope, error)
    note_fault("app_request_failed", path=scope["path"], status=error.status, error=error.message)
    if isinstance(error, AppFault):
        return PlainAnswer(500, f"Internal Server Error: {error.message}")
    return PlainAnswer(*describe_failure(error, detailed=state.settings.expose_detailed_errors))
