from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from .errors import S3Error
from .xml import document

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypha_artifacts.blobs import BlobStore, StoredBlob

    from .request import S3Request
    from .xml import Nodes

__all__ = ["list_objects", "max_keys", "written_time"]

_MAX_KEYS = 1000


async def list_objects(store: BlobStore, request: S3Request) -> bytes:
    """Return the answer of ListObjectsV2, or of ListObjects where the request is of version 1."""
    query = request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = max_keys(query.get("max-keys", ""))
    in_url = query.get("encoding-type", "") == "url"
    encode: Callable[[str], str] = (lambda text: quote(text, safe="/-._~")) if in_url else str
    is_v2 = query.get("list-type") == "2"
    marker = None if is_v2 else query.get("marker", "")
    token, after = query.get("continuation-token", ""), query.get("start-after", "")
    page = await store.page(
        prefix, delimiter=delimiter, after=after, token=token, marker=marker, limit=max(limit, 1)
    )  # fmt: skip
    objects, folders, following = (page.objects, page.folders, page.next) if limit else ([], [], "")
    head: list[tuple[str, str | Nodes]] = [("Name", store.bucket), ("Prefix", encode(prefix))]
    if is_v2:
        head += [("KeyCount", str(len(objects) + len(folders)))]
        head += [("ContinuationToken", token)] if token else []
        head += [("StartAfter", encode(after))] if after else []
        head += [("NextContinuationToken", following)] if following else []
    else:
        head += [("Marker", encode(marker or ""))]
        head += [("NextMarker", encode(following))] if following else []
    head += [("MaxKeys", str(limit)), ("IsTruncated", "true" if following else "false")]
    head += [("Delimiter", encode(delimiter))] if delimiter else []
    head += [("EncodingType", "url")] if in_url else []
    listed: list[tuple[str, str | Nodes]] = [("Contents", _contents(found, encode)) for found in objects]
    listed += [("CommonPrefixes", [("Prefix", encode(folder))]) for folder in folders]
    return document("ListBucketResult", [*head, *listed])


def max_keys(text: str) -> int:
    """Return how much a page may hold. Raises S3Error."""
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise S3Error("InvalidArgument", "max-keys must be a number")
    return min(int(text), _MAX_KEYS) if text else _MAX_KEYS


def written_time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _contents(found: StoredBlob, encode: Callable[[str], str]) -> Nodes:
    return [
        ("Key", encode(found.key)),
        ("LastModified", written_time(found.modified_at)),
        ("ETag", f'"{found.etag}"'),
        ("Size", str(found.size)),
        ("StorageClass", "STANDARD"),
    ]
