"""Sources of apps that docs/reference/app-templates.md shows."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["documented_source"]

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "app-templates.md"


def documented_source(word: str) -> str:
    """Return the one source of the page that has ``word`` in it, to the letter."""
    sources = re.findall(r"^```html\n(.*?)^```$", _PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    found = [source for source in sources if word in source]
    assert len(found) == 1, f"{len(found)} examples have {word!r}"
    return found[0]
