from __future__ import annotations

import re

from hypha_artifacts.blobs.layout import content_type_of

__all__ = ["media_type"]

# What clients say that do not know better.
_SAYS_NOTHING = ("application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
_VALID = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *;[\x20-\x7e]*)?")
_MAX_LENGTH = 255


def media_type(said: str | None, path: str) -> str:
    """Return the content type of a file: what was said when it was written, else what its name tells."""
    text = (said or "").strip()
    if len(text) > _MAX_LENGTH or not _VALID.fullmatch(text) or text.partition(";")[0].lower() in _SAYS_NOTHING:
        return content_type_of(path)
    return text
