from __future__ import annotations

import codecs

__all__ = ["Lines"]

_MAX_LINE = 2048  # characters, so that an entry of the log takes it whole; longer ones are parted


class Lines:
    """Makes lines of the bytes of a stream, as they come."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now; without data, at the end, all that is left."""
        text = self._rest + self._decode(data, final=not data)
        *lines, self._rest = text.split("\n")
        if not data or len(self._rest) > _MAX_LINE:
            lines, self._rest = [*lines, *([self._rest] if self._rest else [])], ""
        return [line[at : at + _MAX_LINE] for line in lines for at in range(0, max(len(line), 1), _MAX_LINE)]
