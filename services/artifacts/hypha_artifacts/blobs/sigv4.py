"""
Signatures of AWS requests, version 4, as far as S3 uses them. Pure.

Source: AWS "Authenticating Requests (AWS Signature Version 4)", query parameters.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from time import gmtime, strftime
from urllib.parse import quote

__all__ = ["ALGORITHM", "UNSIGNED", "Credentials", "canonical_query", "presign", "signature", "signing_key"]

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str


def presign(
    method: str,
    url: str,
    credentials: Credentials,
    *,
    expires_s: int,
    now: float,
    query: Iterable[tuple[str, str]] = (),
    headers: Iterable[tuple[str, str]] = (),
) -> str:
    """
    Return ``url`` (path not yet encoded, no query) with a signature in its query.

    ``query`` is signed, too; so are ``headers``, which whoever uses the address has to send besides ``Host``.

    """
    # Not by urlsplit: "?" and "#" are characters of the path here.
    scheme, _, rest = url.partition("://")
    host, _, raw_path = rest.partition("/")
    stamp = strftime("%Y%m%dT%H%M%SZ", gmtime(now))
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    signed = sorted([("host", host), *((name.lower(), value.strip()) for name, value in headers)])
    parameters = [
        *query,
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{credentials.access_key_id}/{scope}"),
        ("X-Amz-Date", stamp),
        ("X-Amz-Expires", str(expires_s)),
        ("X-Amz-SignedHeaders", ";".join(name for name, _ in signed)),
    ]
    text = canonical_query(parameters)
    path = quote(f"/{raw_path}", safe="/-._~")
    mark = signature(method, path, text, signed, UNSIGNED, stamp, credentials)
    return f"{scheme}://{host}{path}?{text}&X-Amz-Signature={mark}"


def signature(
    method: str,
    encoded_path: str,
    query: str,
    headers: Iterable[tuple[str, str]],
    payload_hash: str,
    stamp: str,
    credentials: Credentials,
) -> str:
    """
    Return the signature of a request in hexadecimal.

    ``query`` is canonical, ``headers`` are the signed ones in their order, ``stamp`` is ``YYYYMMDDTHHMMSSZ``.

    """
    pairs = list(headers)
    request = "\n".join(
        (
            method,
            encoded_path,
            query,
            *(f"{name}:{value}" for name, value in pairs),
            "",
            ";".join(name for name, _ in pairs),
            payload_hash,
        )
    )
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    text = f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = signing_key(credentials.secret_access_key, stamp[:8], credentials.region)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=1024)
def signing_key(secret: str, day: str, region: str) -> bytes:
    """Return the key that signs all requests of one day."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def canonical_query(parameters: Iterable[tuple[str, str]]) -> str:
    """Return a query encoded and sorted as AWS signs it."""
    pairs = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in parameters)
    return "&".join(f"{name}={value}" for name, value in pairs)
