"""
Who signed a request, and whether that is what was signed. Pure.

Source: AWS "Authenticating Requests (AWS Signature Version 4)": Authorization header and query parameters.
"""

from __future__ import annotations

import hmac
import re
from calendar import timegm
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from time import strptime
from urllib.parse import quote, unquote

from hypha_artifacts.blobs.sigv4 import ALGORITHM, UNSIGNED, Credentials, canonical_query, signature

from .errors import S3Error

__all__ = ["MAX_SKEW_S", "STREAMING", "Signature", "SignedRequest"]

MAX_SKEW_S = 900
MAX_EXPIRES_S = 7 * 86400

# The body is in chunks of AWS's own, each perhaps with a signature; what they sign is not looked at.
STREAMING = (
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
)

_STAMP = re.compile(r"\d{8}T\d{6}Z")
_SECONDS = re.compile(r"[0-9]{1,9}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]*)\s*")

# Neither changes what a request does; proxies and browsers' clients add them.
_NEED_NO_SIGNATURE = frozenset(("x-amz-content-sha256", "x-amz-date", "x-amz-user-agent"))


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """
    A request as its signature sees it.

    ``paths`` are the encoded paths and ``hosts`` the names that the client may have signed: a reverse proxy before us
    may have changed both. ``query`` is decoded, ``headers`` have names in small letters.

    """

    methods: Sequence[str]
    paths: Sequence[str]
    hosts: Sequence[str]
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of its signature."""

    access_key_id: str
    scope: tuple[str, str, str]  # day, region, service
    stamp: str  # YYYYMMDDTHHMMSSZ
    signed_headers: tuple[str, ...]
    mark: str
    payload_hash: str
    expires_s: int | None  # None: signed for now, in a header

    @classmethod
    def of(cls, request: SignedRequest) -> Signature:
        """Read the signature of a request. Raises S3Error."""
        query = dict(request.query)
        authorization = request.headers.get("authorization", "")
        if "X-Amz-Signature" in query or "X-Amz-Credential" in query:
            return cls._of_query(query, request.headers)
        if authorization.startswith(ALGORITHM):
            return cls._of_header(authorization.removeprefix(ALGORITHM), request.headers)
        if authorization.startswith("AWS ") or "AWSAccessKeyId" in query:
            raise S3Error("InvalidRequest", "Only signatures of version 4 are accepted (AWS4-HMAC-SHA256)")
        raise S3Error("AccessDenied", "The request has no signature")

    @classmethod
    def _of_query(cls, query: Mapping[str, str], headers: Mapping[str, str]) -> Signature:
        def value(name: str) -> str:
            found = query.get(f"X-Amz-{name}", "")
            if not found:
                raise S3Error("AuthorizationQueryParametersError", f"X-Amz-{name} is missing in the query")
            return found

        if value("Algorithm") != ALGORITHM:
            raise S3Error("AuthorizationQueryParametersError", f"X-Amz-Algorithm must be {ALGORITHM}")
        expires = value("Expires")
        if not _SECONDS.fullmatch(expires) or not 1 <= int(expires) <= MAX_EXPIRES_S:
            raise S3Error("AuthorizationQueryParametersError", "X-Amz-Expires must be between 1 s and a week")
        names = tuple(value("SignedHeaders").split(";"))
        payload = headers.get("x-amz-content-sha256", UNSIGNED) if "x-amz-content-sha256" in names else UNSIGNED
        key, scope = _credential(value("Credential"))
        return cls(key, scope, value("Date"), names, value("Signature"), payload, int(expires))._checked(headers)

    @classmethod
    def _of_header(cls, text: str, headers: Mapping[str, str]) -> Signature:
        found = [match for part in text.split(",") if (match := _PART.fullmatch(part))]
        parts: dict[str, str] = {match[1]: match[2] for match in found}
        if len(parts) != 3:
            raise S3Error("AuthorizationHeaderMalformed", "Credential, SignedHeaders and Signature are required")
        payload = headers.get("x-amz-content-sha256", "")
        if not payload:
            raise S3Error("InvalidRequest", "The header x-amz-content-sha256 is missing")
        if payload != UNSIGNED and payload not in STREAMING and not _SHA256.fullmatch(payload):
            raise S3Error("InvalidArgument", "x-amz-content-sha256 must be a SHA-256 or a known name")
        key, scope = _credential(parts["Credential"])
        names = tuple(parts["SignedHeaders"].split(";"))
        stamp = headers.get("x-amz-date", "")
        return cls(key, scope, stamp, names, parts["Signature"], payload, None)._checked(headers)

    def _checked(self, headers: Mapping[str, str]) -> Signature:
        """Raise S3Error unless this can be a signature of a request with these headers."""
        if not _STAMP.fullmatch(self.stamp) or self.stamp[:8] != self.scope[0]:
            raise S3Error("AccessDenied", "The date of the request is missing, or another than that of its credential")
        if "host" not in self.signed_headers:
            raise S3Error("AccessDenied", "The header host is not signed")
        for name in headers:
            if name.startswith("x-amz-") and name not in self.signed_headers and name not in _NEED_NO_SIGNATURE:
                raise S3Error(
                    "AccessDenied", f"There were headers present in the request which were not signed: {name}"
                )
        return self

    def check_time(self, now: float) -> None:
        """Raise S3Error unless the signature holds at a time (Unix, seconds)."""
        try:
            signed_at = timegm(strptime(self.stamp, "%Y%m%dT%H%M%SZ"))
        except ValueError:
            raise S3Error("AccessDenied", "The date of the request is no date") from None
        if self.expires_s is None:
            if abs(now - signed_at) > MAX_SKEW_S:
                raise S3Error("RequestTimeTooSkewed", "The clocks of the client and of this server differ too much")
        elif signed_at > now + MAX_SKEW_S:
            raise S3Error("AccessDenied", "Request is not valid yet")
        elif now > signed_at + self.expires_s:
            raise S3Error("AccessDenied", "Request has expired")

    def check(self, request: SignedRequest, secrets: Iterable[str]) -> None:
        """Raise S3Error unless one of the secrets signed the request."""
        query = canonical_query(pair for pair in request.query if pair[0] != "X-Amz-Signature")
        seen = list(dict.fromkeys(path for sent in request.paths for path in (sent, quote(unquote(sent), "/-._~"))))
        for secret in secrets:
            credentials = Credentials(self.access_key_id, secret, self.scope[1])
            for method, path, host in product(request.methods, seen, dict.fromkeys(request.hosts)):
                headers = self._canonical_headers(request.headers, host)
                wanted = signature(method, path, query, headers, self.payload_hash, self.stamp, credentials)
                if hmac.compare_digest(wanted.encode(), self.mark.encode()):
                    return
        raise S3Error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and method.",
        )

    def _canonical_headers(self, headers: Mapping[str, str], host: str) -> list[tuple[str, str]]:
        return [
            (name, host if name == "host" else " ".join(headers.get(name, "").split())) for name in self.signed_headers
        ]


def _credential(text: str) -> tuple[str, tuple[str, str, str]]:
    """Split ``<key id>/<day>/<region>/s3/aws4_request``."""
    key, *scope = text.rsplit("/", 4)
    if len(scope) != 4 or not key or scope[2:] != ["s3", "aws4_request"]:
        raise S3Error("AuthorizationHeaderMalformed", "The credential is not <key>/<day>/<region>/s3/aws4_request")
    return key, (scope[0], scope[1], scope[2])
