from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Element", "elements", "is_markup", "is_page"]

_TAGS = ("config", "manifest", "script", "style", "docs", "window", "file", "attachment")
_OPENING = re.compile(rf"<(?:(?P<comment>!--)|(?P<tag>{'|'.join(_TAGS)})(?=[\s/>]))", re.IGNORECASE)
_CLOSING = {tag: re.compile(rf"</{tag}\s*>", re.IGNORECASE) for tag in _TAGS}
_REST_OF_TAG = re.compile(r"""(?:[^>"']|"[^"]*"|'[^']*')*+>""")
_ATTRIBUTE = re.compile(r"""([^\s=/"'>]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")
_PAGE = re.compile(r"\s*(?:<!--(?:[^-]|-(?!->))*+-->\s*)*+<(?:!doctype\s+html|html)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Element:
    """A section of a plugin file: what is between its tags, to the letter."""

    tag: str
    attributes: dict[str, str]
    text: str


def is_page(source: str) -> bool:
    """Tell whether a source is a whole HTML page."""
    return _PAGE.match(source) is not None


def is_markup(source: str) -> bool:
    """Tell whether a source is a plugin file: it has sections, and is no page."""
    return source.lstrip().startswith("<") and not is_page(source) and _OPENING.search(source) is not None


def elements(source: str) -> Iterator[Element]:
    """
    Yield the sections of a plugin file, at whatever level they are; what is inside of a section is its text.

    Reads the source once from begin to end: a section that is not closed goes to the end of the file.

    """
    at = 0
    while (opening := _OPENING.search(source, at)) is not None:
        if opening["comment"]:
            end = source.find("-->", opening.end())
            at = len(source) if end < 0 else end
            continue
        rest = _REST_OF_TAG.match(source, opening.end())
        if rest is None:
            return
        tag, at, text = opening["tag"].lower(), rest.end(), ""
        if not rest[0].endswith("/>"):
            closing = _CLOSING[tag].search(source, at)
            text = source[at : closing.start() if closing else len(source)]
            at = closing.end() if closing else len(source)
        yield Element(tag, _attributes(rest[0][:-1]), text.strip("\r\n"))


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(text):
        found.setdefault(name.lower(), html.unescape(next((value for value in values if value), "")))
    return found
