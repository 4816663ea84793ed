"""
Links from pages to files of the repository that are no pages: `../../README.md`, `../../tests/unit/test_ids.py`.

A reader of the repository follows them to the file. On the site some files are pages of their own (`_PAGES`); others
are copied into it, as Sphinx does with files that are not Markdown.
"""

from __future__ import annotations

from pathlib import Path

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.typing import ExtensionMetadata

_PAGES = {
    "README": "index",
    "ARCHITECTURE": "explanation/architecture",
    "CHANGELOG": "reference/changelog",
}


class RepositoryLinks(SphinxTransform):
    """Turns links to Markdown files outside of `docs/` into links to what the site has of them."""

    default_priority = 600  # after the parser, before Sphinx collects downloads

    def apply(self, **_kwargs: object) -> None:
        repository = Path(self.env.srcdir).parent
        for link in list(self.document.findall(addnodes.pending_xref)):
            target = Path(link.get("reftarget", ""))  # without `.md`; absolute only where it is no page
            if link.get("refdomain") != "doc" or not target.is_relative_to(repository):
                continue
            name = target.relative_to(repository).as_posix()
            if name in _PAGES:
                link["reftarget"] = _PAGES[name]
            else:
                self._copy(link, name)

    def _copy(self, link: addnodes.pending_xref, name: str) -> None:
        """Offer the file for download. MyST has looked whether it exists."""
        download = addnodes.download_reference("", "", reftarget=f"/../{name}.md", refdoc=self.env.docname)
        download += link.children
        link.replace_self(download)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
