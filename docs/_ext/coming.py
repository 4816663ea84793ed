"""Lines of toctrees such as `images*`: a page that is listed as soon as it is there."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_LINE = re.compile(r"^[./a-z-]+\*\n", re.MULTILINE)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    folder = Path(app.srcdir, page).parent
    source[0] = _LINE.sub(lambda line: line[0] if [*folder.glob(f"{line[0].strip()}.md")] else "", source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
