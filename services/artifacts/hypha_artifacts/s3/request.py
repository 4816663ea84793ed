from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from .errors import S3Error
from .signature import STREAMING, SignedRequest

if TYPE_CHECKING:
    from hypha_common.plans import HttpCall
    from hypha_common.settings import Settings

__all__ = ["S3Request", "check_key"]

RAW_PATH, RAW_QUERY = "x-hypha-raw-path", "x-hypha-raw-query"  # as sent, the path below the base path

_MOUNT = "/s3"
_MAX_KEY_BYTES = 1024
_MAX_NAME_BYTES = 255  # of one part: stores that are folders cannot have longer ones
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_META = "x-amz-meta-"
_KEPT = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_MAX_METADATA_BYTES = 8192


@dataclass(frozen=True, slots=True)
class S3Request:
    """A request of the S3 API. ``query`` is without what belongs to the signature."""

    method: str
    bucket: str
    key: str  # "" where the bucket is meant
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    path: str  # as sent, for messages
    signed: SignedRequest

    @classmethod
    def of(cls, call: HttpCall, settings: Settings) -> S3Request:
        """Read a request. Raises S3Error where it makes no sense."""
        headers = dict(call.headers)
        path, raw_query = headers.pop(RAW_PATH, ""), headers.pop(RAW_QUERY, "")
        try:
            bucket, _, key = unquote(path.removeprefix(_MOUNT).removeprefix("/"), errors="strict").partition("/")
            query = [(unquote(n, errors="strict"), unquote(v, errors="strict")) for n, v in _pairs(raw_query)]
        except UnicodeDecodeError:
            raise S3Error("InvalidURI", "The address is not UTF-8") from None
        methods = (
            ("HEAD", "GET") if call.method == "HEAD" else (call.method,)
        )  # whoever may read, may ask what there is
        signed = SignedRequest(
            methods, _paths(path, settings), _hosts(headers, call.base_url, settings), query, headers
        )
        own = {name: value for name, value in query if not name.lower().startswith("x-amz-")}
        return cls(call.method, bucket, key, own, headers, call.body, path, signed)

    @property
    def is_chunked(self) -> bool:
        """Whether the body is in AWS's own chunk encoding."""
        encodings = self.headers.get("content-encoding", "").lower().replace(" ", "").split(",")
        return self.headers.get("x-amz-content-sha256", "") in STREAMING or "aws-chunked" in encodings

    def metadata(self) -> dict[str, str]:
        """Return the headers that the client wants to keep with an object, by name."""
        found = {name: value for name, value in self.headers.items() if name.startswith(_META) or name in _KEPT}
        encodings = [part.strip() for part in found.pop("content-encoding", "").split(",")]
        if encoding := ",".join(part for part in encodings if part not in ("", "aws-chunked")):
            found["content-encoding"] = encoding
        if sum(len(name) + len(value) for name, value in found.items()) > _MAX_METADATA_BYTES:
            raise S3Error("MetadataTooLarge", f"Metadata of an object are at most {_MAX_METADATA_BYTES} bytes")
        return found


def check_key(key: str) -> str:
    """Return a key that every store can hold. Raises S3Error."""
    parts = key.removesuffix("/").split("/")
    if _CONTROL.search(key) or any(part in ("", ".", "..") for part in parts):
        raise S3Error("InvalidArgument", "A key has no empty part, no `.` or `..`, and no control characters")
    if len(key.encode()) > _MAX_KEY_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in parts):
        raise S3Error(
            "KeyTooLongError", f"A key has {_MAX_KEY_BYTES} bytes at most, each of its parts {_MAX_NAME_BYTES}"
        )
    return key


def _pairs(query: str) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in query.split("&") if part)
    return [(name, value) for name, _, value in pairs]


def _paths(path: str, settings: Settings) -> Sequence[str]:
    """Return what the path may have been where the client signed it: below that of the public address, or another."""
    bases = (urlsplit(settings.public_base_url).path, settings.base_path, "")
    return list(dict.fromkeys(f"{quote(base.rstrip('/'), safe='/-._~%')}{path}" for base in bases))


def _hosts(headers: Mapping[str, str], base_url: str, settings: Settings) -> Sequence[str]:
    """Return the hosts that the client may have meant; a reverse proxy may have changed the header."""
    known = (headers.get("host", ""), urlsplit(settings.public_base_url).netloc, urlsplit(base_url).netloc)
    return list(dict.fromkeys(host for host in known if host))
