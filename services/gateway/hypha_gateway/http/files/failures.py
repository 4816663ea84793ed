from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from xml.sax.saxutils import escape

from hypha_common.errors import HyphaError, Unavailable
from hypha_common.trace import trace_id
from hypha_gateway.http.responses import RETRY_AFTER_S, failure_body, told

__all__ = [
    "ClientGoneError",
    "ErrorForm",
    "PreconditionFailed",
    "RangeNotSatisfiable",
    "StoreAway",
    "StoreRefused",
    "as_detail",
    "as_failure",
    "as_xml",
    "error_headers",
]


class ClientGoneError(Exception):
    """Whoever made the request has left: there is nobody to answer."""


class RangeNotSatisfiable(HyphaError):
    """``content_range`` is what the store says of the size: ``bytes */5``."""

    status, code, rpc_type = 416, "range_not_satisfiable", "ValueError"

    def __init__(self, content_range: str) -> None:
        super().__init__("The file has no such range")
        self.content_range = content_range


class PreconditionFailed(HyphaError):
    status, code, rpc_type = 412, "precondition_failed", "ValueError"

    def __init__(self) -> None:
        super().__init__("The file is not the one that the request expects")


class StoreAway(Unavailable):
    """The store did not answer, or said that it cannot just now."""

    def __init__(self) -> None:
        super().__init__("The store of files is not available, please retry")


class StoreRefused(HyphaError):
    """The store answered what it should not have. ``store_code`` is its word for it, such as ``NoSuchUpload``."""

    status, code, rpc_type = 502, "store_refused", "RuntimeError"

    def __init__(self, message: str = "The store of files gave no usable answer", *, store_code: str = "") -> None:
        super().__init__(message)
        self.store_code = store_code


ErrorForm: TypeAlias = Callable[[HyphaError], tuple[bytes, bytes]]  # an error as content type and body

_JSON = b"application/json"


def as_detail(error: HyphaError) -> tuple[bytes, bytes]:
    return _JSON, failure_body({"detail": error.message})


def as_failure(error: HyphaError) -> tuple[bytes, bytes]:
    return _JSON, failure_body({"success": False, "detail": error.message})


_S3_CODES = {
    400: "InvalidRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    409: "OperationAborted",
    412: "PreconditionFailed",
    413: "EntityTooLarge",
    416: "InvalidRange",
    501: "NotImplemented",
    503: "ServiceUnavailable",
}


def as_xml(error: HyphaError) -> tuple[bytes, bytes]:
    """Return an error as clients of S3 read it."""
    code = getattr(error, "store_code", "") or _S3_CODES.get(error.status, "InternalError")
    told.set((trace_id(), error.message))
    shown = f"<Code>{code}</Code><Message>{escape(error.message)}</Message><RequestId>{trace_id()}</RequestId>"
    body = f"<Error>{shown}</Error>"
    return b"application/xml", b'<?xml version="1.0" encoding="UTF-8"?>\n' + body.encode(errors="replace")


def error_headers(error: HyphaError) -> list[tuple[bytes, bytes]]:
    if isinstance(error, RangeNotSatisfiable) and error.content_range:
        return [(b"content-range", error.content_range.encode("latin-1", "replace"))]
    if error.status in (429, 503):
        return [(b"retry-after", RETRY_AFTER_S)]
    return [(b"www-authenticate", b"Bearer")] if error.status == 401 else []
