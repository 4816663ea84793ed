"""
Sources in ImJoy's format: a page of tags, of which some carry an app (contract 03 §1.4). Nothing here does I/O.

Read like a lenient HTML parser reads scripts: what is between ``<file>`` and the first ``</file>`` is that file, to the
letter, whatever tags and entities are in it. Every text is read once from begin to end, however strange it is.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypha_common.errors import BadRequest

from .configs import read_config
from .files import check_path

__all__ = ["Markup", "is_markup", "is_page", "read_markup"]

MAX_MARKUP_CHARACTERS = 32 * 2**20

# Their content is no markup; `window` and whatever else there is may hold further tags of an app.
_RAW = ("config", "manifest", "file", "script", "style", "docs", "attachment")
_OPENING = re.compile(rf"<(?:(?P<comment>!--)|(?P<tag>{'|'.join(_RAW)})(?=[\s/>]))", re.IGNORECASE)
_CLOSING = {tag: re.compile(rf"</{tag}\s*>", re.IGNORECASE) for tag in _RAW}
_REST_OF_TAG = re.compile(r"""(?:[^>"']|"[^"]*"|'[^']*')*+>""")
_ATTRIBUTE = re.compile(r"""([^\s=/"'>]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")
_ANY_TAG = re.compile(r"<[^<>]*>")
_PAGE = re.compile(r"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_SCRIPTS = {"python": "main.py", "javascript": "main.js", "js": "main.js"}


@dataclass(slots=True)
class Markup:
    """What the tags of a source say."""

    config: dict[str, Any] = field(default_factory=dict)  # of all <config> and <manifest>, the later ones win
    files: dict[str, str] = field(default_factory=dict)  # by path, scripts included
    formats: dict[str, str] = field(default_factory=dict)  # of files that say one
    entry_point: str | None = None  # the first script
    rest: str = ""  # text in no tag


def is_page(source: str) -> bool:
    """Tell whether a source is a whole HTML page."""
    return _PAGE.match(source) is not None


def is_markup(source: str) -> bool:
    return source.lstrip().startswith("<")


def read_markup(source: str) -> Markup:
    """Return what a source says. Raises BadRequest for what cannot be read."""
    if len(source) > MAX_MARKUP_CHARACTERS:
        raise BadRequest(f"A source with tags may have {MAX_MARKUP_CHARACTERS} characters at most")
    found = Markup()
    rest: list[str] = []
    for tag, attributes, content in _elements(source):
        if tag == "":
            rest.append(content)
        elif tag in ("config", "manifest"):
            found.config.update(read_config(content, attributes.get("lang") or "json", tag))
        elif tag == "file":
            _add_file(found, attributes, content)
        elif tag == "script":
            _add_script(found, attributes, content)
    text = "".join(rest)
    found.rest = text.strip() if _ANY_TAG.sub("", text).strip() else ""
    return found


def _add_file(found: Markup, attributes: dict[str, str], content: str) -> None:
    name = attributes.get("name") or attributes.get("path")
    if not name:
        raise BadRequest("<file> must have a name")
    path = check_path(name)
    _put(found, path, content.strip())
    if kind := attributes.get("format") or attributes.get("type"):
        found.formats[path] = kind.lower()


def _add_script(found: Markup, attributes: dict[str, str], content: str) -> None:
    usual = _SCRIPTS.get((attributes.get("lang") or "javascript").lower(), "main.txt")
    if name := attributes.get("name"):
        path = check_path(name)
    else:
        # The next ones of a kind are kept beside the first, not instead of it.
        stem, _, extension = usual.rpartition(".")
        number = 1
        path = usual
        while path in found.files:
            number += 1
            path = f"{stem}_{number}.{extension}"
    _put(found, path, content.strip())
    if found.entry_point is None:
        found.entry_point = path


def _put(found: Markup, path: str, content: str) -> None:
    if path in found.files:
        raise BadRequest(f"The source has several files called '{path}'")
    found.files[path] = content


def _elements(source: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield (tag, attributes, content) of raw tags, and ``("", {}, text)`` of what is between them."""
    at = 0
    while (opening := _OPENING.search(source, at)) is not None:
        yield "", {}, source[at : opening.start()]
        if opening["comment"]:
            end = source.find("-->", opening.end())
            at = len(source) if end < 0 else end + len("-->")
            continue
        tag = opening["tag"].lower()
        rest = _REST_OF_TAG.match(source, opening.end())
        if rest is None:
            raise BadRequest(f"The source ends in the middle of <{tag}")
        said = rest[0][:-1]
        at = rest.end()
        content = ""
        if not said.endswith("/"):
            closing = _CLOSING[tag].search(source, at)
            content = source[at:] if closing is None else source[at : closing.start()]
            at = len(source) if closing is None else closing.end()
        yield tag, _attributes(said), _without_cdata(content)
    yield "", {}, source[at:]


def _attributes(said: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(said):
        found.setdefault(name.lower(), html.unescape(next((value for value in values if value), "")))
    return found


def _without_cdata(content: str) -> str:
    inner = content.strip()
    if inner.startswith("<![CDATA[") and inner.endswith("]]>"):
        return inner[len("<![CDATA[") : -len("]]>")]
    return content
