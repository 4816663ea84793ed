from __future__ import annotations

from hypha_common.errors import BadRequest

__all__ = ["MAX_PARTS", "read_parts"]

MAX_PARTS = 10_000


def read_parts(parts: object) -> list[tuple[int, str]]:
    """Return (number, etag) of ``{part_number, etag}``, as clients name parts, by number. Raises BadRequest."""
    if not isinstance(parts, list) or not parts:
        raise BadRequest("Parts list cannot be empty")
    if len(parts) > MAX_PARTS:
        raise BadRequest(f"An upload has {MAX_PARTS} parts at most")
    read: dict[int, str] = {}
    for part in parts:
        number, etag = (part.get("part_number"), part.get("etag")) if isinstance(part, dict) else (None, None)
        if isinstance(number, bool) or not isinstance(number, int) or not isinstance(etag, str):
            raise BadRequest("Each part must be a map of part_number, a number, and etag, a text")
        if not 1 <= number <= MAX_PARTS or number in read:
            raise BadRequest(f"part_number must be between 1 and {MAX_PARTS}, and each one other")
        read[number] = etag.strip('"')
    return sorted(read.items())
