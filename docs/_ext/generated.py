"""
Parts of pages that are made from code when the site is built.

A page says where, in a block that is one line long:

    ```{generated} settings
    ```

The block becomes the Markdown that the function of that name in `parts.PARTS` returns; further words are its arguments.
A part with nothing in it fails the build: code has moved, and the page would be wrong without a word.
"""

from __future__ import annotations

import re

from parts import PARTS
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.typing import ExtensionMetadata

__all__ = ["expand"]

_BLOCK = re.compile(r"^```\{generated\} ([a-z0-9 -]+)\n```$", re.MULTILINE)


def expand(source: str) -> str:
    """``source`` of a page with every block replaced by what it stands for."""
    return _BLOCK.sub(lambda block: _made(*block[1].split()), source)


def _made(name: str, *arguments: str) -> str:
    if name not in PARTS:
        raise ExtensionError(f"nothing generates {name!r}; there are {', '.join(sorted(PARTS))}")
    text = PARTS[name](*arguments).strip()
    if not text:
        raise ExtensionError(f"nothing was found in the code to generate {name!r} from")
    return text


def _read(_app: Sphinx, _page: str, source: list[str]) -> None:
    source[0] = expand(source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
