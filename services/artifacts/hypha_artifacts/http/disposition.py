from __future__ import annotations

import re
from urllib.parse import quote

__all__ = ["attachment"]

_NOT_PLAIN = re.compile(r'[^\x20-\x7e]|["\\%]')  # a percent sign would be decoded by some browsers
_ATTRIBUTE = "!#$&+-.^_`|~"  # what RFC 5987 leaves as it is, besides letters and digits


def attachment(name: str) -> str:
    """Return a Content-Disposition that saves under a name, whatever signs are in it (RFC 6266)."""
    plain = _NOT_PLAIN.sub("_", name)
    header = f'attachment; filename="{plain}"'
    if plain != name:
        header += f"; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe=_ATTRIBUTE)}"
    return header
