from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore

__all__ = ["as_count", "list_folder"]

_MAX_LISTED = 100_000


async def list_folder(store: BlobStore, prefix: str, *, limit: int, offset: int = 0) -> list[dict[str, Any]]:
    """Return one level of what is below a prefix, page by page files before folders (contract 02 §2.3)."""
    items: list[dict[str, Any]] = []
    token = ""
    while len(items) < offset + limit:
        page = await store.page(prefix, delimiter="/", token=token)
        items += [
            {"type": "file", "name": found.key[len(prefix) :], "size": found.size, "last_modified": found.modified_at}
            for found in page.objects
            if found.key != prefix  # what marks a folder in some stores
        ]
        items += [{"type": "directory", "name": folder[len(prefix) : -1]} for folder in page.folders]
        token = page.next
        if not token:
            break
    return items[offset : offset + limit]


def as_count(name: str, value: object, *, least: int = 0, most: int = _MAX_LISTED) -> int:
    """Return a number that a client gave, over HTTP as text. Raises BadRequest."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"{name} must be between {least} and {most}")
    return value
