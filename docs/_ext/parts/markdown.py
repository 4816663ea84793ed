from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["cell", "code", "prose", "sentence", "table"]

_ROLE = re.compile(r":\w+:`~?\.?([^`]+)`")
_CODE = re.compile(r"(`[^`]*`)")
_LITERAL = re.compile(r"``([^`]+)``")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, or nothing where there are no rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines]) if lines else ""


def code(text: object) -> str:
    """Text as it is typed; nothing stays nothing."""
    written = str(text)
    fence = "``" if "`" in written else "`"
    return f"{fence}{written}{fence}" if written else ""


def cell(text: str) -> str:
    """Text that stands in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def prose(text: str) -> str:
    """A docstring, which has reStructuredText's literals and roles, as Markdown."""
    pieces = _CODE.split(_LITERAL.sub(r"`\1`", _ROLE.sub(r"`\1`", text)))
    # Outside of code `<` begins HTML, and `*` emphasis.
    return "".join(
        piece if piece.startswith("`") else piece.replace("<", "&lt;").replace("*", "\\*") for piece in pieces
    )


def sentence(text: str) -> str:
    """Text with a capital letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", ":")) else ".") if text else ""
