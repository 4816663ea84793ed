from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypha_artifacts.blobs.layout import content_type_of
from hypha_common.plans import Fetch, Headers, HttpCall, Plan, Reply
from hypha_common.trace import trace_id

from .conditions import Entity, UnsatisfiableError, precondition, wanted_range
from .disposition import attachment

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore
    from hypha_artifacts.files.file_rows import FileRow

__all__ = ["begins_with_first_byte", "json_reply", "send_file"]


def json_reply(value: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Reply:
    if status >= 400 and isinstance(value, dict):
        value = {**value, "error_id": trace_id()}
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, [("content-type", "application/json"), *headers], body)


def send_file(store: BlobStore, file: FileRow, call: HttpCall, *, download: bool = False) -> Plan:
    """Return how to answer a GET or HEAD for a file: conditions, ranges, and what the store does not know of it."""
    entity = Entity(file.size or 0, file.etag or "", file.modified_at or 0.0)
    headers = _headers(file, entity, download=download)
    ended = precondition(call.headers, entity)
    if ended == 304:
        return Reply(304, headers)
    if ended is not None:
        return json_reply({"detail": "The file is another one than was expected"}, ended)
    if call.method == "HEAD":
        return Reply(200, [*headers, ("content-length", str(entity.size))])
    try:
        piece = wanted_range(call.headers, entity)
    except UnsatisfiableError:
        unsatisfied = ("content-range", f"bytes */{entity.size}")
        return json_reply({"detail": f"The file has {entity.size} bytes only"}, 416, [unsatisfied])
    send = [] if piece is None else [("range", f"bytes={piece[0]}-{piece[1]}")]
    missing = f"File '{file.path}' does not exist in the artifact."
    return Fetch(store.address("GET", file.key), send=send, headers=headers, missing=missing)


def begins_with_first_byte(plan: Plan) -> bool:
    """Tell whether a file, or its beginning, is sent: players fetch one file by many ranges, which is one download."""
    if isinstance(plan, Fetch):
        return all(name != "range" or value.startswith("bytes=0-") for name, value in plan.send)
    return isinstance(plan, Reply) and plan.status == 307


def _headers(file: FileRow, entity: Entity, *, download: bool) -> Headers:
    headers = [
        ("content-type", file.content_type or content_type_of(file.path)),
        ("accept-ranges", "bytes"),
        ("last-modified", entity.last_modified),
        ("cache-control", "private, no-cache"),  # the path may be another file tomorrow, and is not for everybody
    ]
    if entity.etag:
        headers.append(("etag", f'"{entity.etag}"'))
    if download:
        headers.append(("content-disposition", attachment(file.path.rpartition("/")[2])))
    return headers
