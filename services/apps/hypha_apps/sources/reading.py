from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hypha_common.errors import BadRequest

from .files import file_entry, merged, read_files
from .hashing import verify_source
from .manifests import UNTITLED, base_manifest, refuse_services
from .markup import is_markup, is_page, read_markup

if TYPE_CHECKING:
    from .download import Downloads

__all__ = ["AppSource", "read_source"]

_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_SHOWN = re.compile(r"<(?:window|style)[\s>]", re.IGNORECASE)
_LOCAL = ("localhost", "127.0.0.1")
_DOWNLOADED = (".imjoy.html", ".hypha.html")


@dataclass(frozen=True, slots=True)
class AppSource:
    """What somebody installs: a manifest of a runtime type, and files, ``{name, path, content, format}`` each."""

    manifest: dict[str, Any]
    files: list[dict[str, Any]]


async def read_source(
    source: str | None, manifest: Mapping[str, Any] | None, files: object, downloads: Downloads
) -> AppSource:
    """Do steps 6 to 15 of contract 03 §1.3. Raises BadRequest, PayloadTooLarge."""
    said, explicit = base_manifest(manifest), read_files(files)
    if source is not None and not isinstance(source, str):
        raise BadRequest(f"The source must be text, not {type(source).__name__}")
    if source and _URL.fullmatch(source.strip()):
        url = source.strip()
        if _is_downloaded(url):
            source = await downloads.fetch(url)
        else:
            _check_page_address(url)
            verify_source(url, said.get("source_hash"))
            said["entry_point"] = url if said.get("type") == "web-app" else posixpath.basename(urlsplit(url).path)
            source = None
    # Parsing a large source takes a while.
    return await asyncio.to_thread(_read, source, said, explicit)


def _read(source: str | None, said: dict[str, Any], explicit: list[dict[str, Any]]) -> AppSource:
    files: list[dict[str, Any]] = []
    if source:
        said["source_hash"] = verify_source(source, said.get("source_hash"))
        files = _extract(source, said)
    files = merged(files, explicit)
    refuse_services(said)
    kind = said.get("type")
    if kind is None or kind == "application":
        raise BadRequest("Application type should not be application or None")
    if not isinstance(kind, str):
        raise BadRequest(f"Invalid manifest: 'type' must be a string, not {kind!r:.80}")
    if kind == "hypha" and not source:
        raise BadRequest("Source is missing")
    if not said.get("entry_point"):
        said["entry_point"] = "source"
    return AppSource(said, files)


def _extract(source: str, said: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the files in a source, after its words about the app have gone into ``said``."""
    if is_page(source):
        if said.get("type") in (None, "hypha"):
            said["type"] = "window"
        if said.get("name") in (None, UNTITLED):
            said["name"] = "Raw HTML App"
        said["entry_point"] = "index.html"
        return [file_entry("index.html", source)]
    if is_markup(source):
        return _extract_markup(source, said)
    if said.get("type") == "hypha":
        raise BadRequest(
            "The source does not say of which type the app is: pass a manifest with a type, such as "
            "{'name': …, 'type': 'web-worker'}, or a source with a <config> tag"
        )
    return [file_entry(_entry_point(said), source)]


def _extract_markup(source: str, said: dict[str, Any]) -> list[dict[str, Any]]:
    found = read_markup(source)
    said.update(found.config)
    files = [file_entry(path, content, found.formats.get(path, "text")) for path, content in found.files.items()]
    if found.entry_point is not None:
        said["entry_point"] = found.entry_point
    elif found.rest:
        files = merged(files, [file_entry(_entry_point(said), found.rest)])
    if isinstance(said.get("type"), dict):
        said["type"] = "hypha"  # one for each tag of the plugin
    if said.get("type") == "hypha" or (said.get("type") == "window" and _SHOWN.search(source)):
        # The browser worker reads more of its tags.
        files = merged(files, [file_entry("source", source)])
    return files


def _entry_point(said: Mapping[str, Any]) -> str:
    entry_point = said.get("entry_point")
    return entry_point if isinstance(entry_point, str) and entry_point else "source"


def _is_downloaded(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme.lower() == "https" and parts.path.lower().endswith(_DOWNLOADED)


def _check_page_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme.lower() != "https" and parts.hostname not in _LOCAL:
        raise BadRequest("Only secured https urls are allowed")
