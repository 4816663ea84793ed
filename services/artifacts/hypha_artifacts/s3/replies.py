"""Answers of the S3 API about one object."""

from __future__ import annotations

from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING

from hypha_artifacts.http.conditions import range_for_store
from hypha_common.plans import Fetch, Headers, Reply

from .errors import S3Error

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore
    from hypha_artifacts.workspace_files.objects import WorkspaceObject

    from .request import S3Request

__all__ = ["check_conditions", "fetch_headers", "fetch_object", "head_object", "object_headers", "overrides"]

_OVERRIDES = {
    f"response-{name}": name
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
}


def object_headers(etag: str) -> Headers:
    return [("etag", f'"{etag}"')]


def fetch_object(store: BlobStore, request: S3Request, found: WorkspaceObject) -> Fetch | Reply:
    """Return the plan that sends an object, or a range of it, as far as the conditions of the request are met."""
    if unchanged := check_conditions(request, found):
        return unchanged
    if request.method == "HEAD" and "range" not in request.headers:
        return head_object(request, found)
    send = fetch_headers(request)
    if request.headers.get("if-range", "").strip('"') not in ("", found.etag, found.store_etag):
        send = []
    return Fetch(store.address(request.method, found.key), send, overrides(request, _described(found)))


def head_object(request: S3Request, found: WorkspaceObject) -> Reply:
    described = [
        *_described(found),
        ("content-length", str(found.size)),
        ("last-modified", formatdate(found.modified_at, usegmt=True)),
        ("accept-ranges", "bytes"),
    ]
    return Reply(200, overrides(request, described))


def fetch_headers(request: S3Request) -> Headers:
    """Return what the store is to be asked for: a range. It is not asked to look at conditions: some do not."""
    return range_for_store(request.headers)


def overrides(request: S3Request, headers: Headers) -> Headers:
    """Return headers of an answer with those in their place that the query asks for; they are signed with it."""
    wanted = {name: request.query[key] for key, name in _OVERRIDES.items() if request.query.get(key)}
    if any(ord(c) < 32 or ord(c) > 255 or c == "\x7f" for value in wanted.values() for c in value):
        raise S3Error("InvalidArgument", "response-… must be a line of text in Latin-1")
    return [*((name, value) for name, value in headers if name not in wanted), *wanted.items()]


def check_conditions(request: S3Request, found: WorkspaceObject) -> Reply | None:
    """Return 304 where the client has the object already, else None. Raises S3Error where it wants another one."""
    headers, modified_at = request.headers, int(found.modified_at)
    if "if-match" in headers:
        if not _matches(headers["if-match"], found):
            raise S3Error("PreconditionFailed", "The object is another one (if-match)")
    elif (since := _time(headers.get("if-unmodified-since"))) is not None and modified_at > since:
        raise S3Error("PreconditionFailed", "The object has been changed (if-unmodified-since)")
    if "if-none-match" in headers:
        unchanged = _matches(headers["if-none-match"], found)
    else:
        since = _time(headers.get("if-modified-since"))
        unchanged = since is not None and modified_at <= since
    if not unchanged:
        return None
    return Reply(304, [*object_headers(found.etag), ("last-modified", formatdate(found.modified_at, usegmt=True))])


def _described(found: WorkspaceObject) -> Headers:
    return [("content-type", found.content_type), *object_headers(found.etag), *found.metadata.items()]


def _matches(header: str, found: WorkspaceObject) -> bool:
    """Tell whether one of the etags is the object's: as clients were told, or as listings tell."""
    named = {part.strip().removeprefix("W/").strip('"') for part in header.split(",")}
    return bool(named & {"*", found.etag, found.store_etag})


def _time(text: str | None) -> float | None:
    """Return an HTTP date as Unix time; None where it is none, as RFC 9110 wants such headers passed over."""
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
