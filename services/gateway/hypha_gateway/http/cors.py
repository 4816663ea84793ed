from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["CorsPolicy"]

Headers = list[tuple[bytes, bytes]]

_METHODS = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_MAX_AGE_S = b"600"
_ALLOWED_HEADERS = ", ".join(
    (
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Origin",
        "Access-Control-Request-Headers",
        "Access-Control-Request-Method",
        "Authorization",
        "Cache-Control",
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Content-MD5",
        "Content-Type",
        "If-Match",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "Inference-Header-Content-Length",
        "Origin",
        "Range",
        "Traceparent",
        "Tracestate",
        "X-Requested-With",
    )
).encode()
_EXPOSED_HEADERS = (
    b"Inference-Header-Content-Length, Accept-Encoding, Range, Origin, Content-Type, "
    b"Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, Last-Modified, X-Request-Id"
)
_OF_S3 = re.compile(rb"x-amz-[a-z0-9-]{1,100}")  # more than can be listed, and `*` does not go with credentials
_MAX_OF_S3 = 50


class CorsPolicy:
    """Which pages of other origins may read our answers (contract 01 §5.3). ``*`` among the origins allows all."""

    def __init__(self, allow_origins: Iterable[str]) -> None:
        origins = {origin.strip().rstrip("/").encode("latin-1", "replace") for origin in allow_origins}
        self._all = b"*" in origins
        self._origins = origins

    def allows(self, origin: bytes) -> bool:
        return self._all or origin in self._origins

    def headers(self, origin: bytes) -> Headers:
        """Return what is added to an answer to a page of ``origin``."""
        if not self.allows(origin):
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED_HEADERS),
            (b"vary", b"Origin"),
        ]

    def preflight(self, origin: bytes, requested: bytes = b"") -> tuple[int, Headers, bytes]:
        """
        Return status, headers and body for a browser that asks before it sends the real request.

        ``requested`` are the headers that this one is to have, separated by commas.

        """
        if not self.allows(origin):
            return 400, [(b"vary", b"Origin")], b"Disallowed CORS origin"
        names = (name.strip().lower() for name in requested.split(b",", _MAX_OF_S3)[:_MAX_OF_S3])
        of_s3 = [name for name in names if _OF_S3.fullmatch(name)]
        headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", b", ".join((_ALLOWED_HEADERS, *of_s3))),
            (b"access-control-max-age", _MAX_AGE_S),
            (b"vary", b"Origin"),
        ]
        return 200, headers, b"OK"
