from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from .config import BUILT_IN

if TYPE_CHECKING:
    from hypha_artifacts.record import Artifact

__all__ = ["PAGE_SIZE", "built_in_template", "page_variables"]

PAGE_SIZE = 48
_MAX_TEXT = 2000
_MAX_SUMMARY = 200
_MAX_ITEMS = 30


@cache
def built_in_template() -> str:
    """Return the page that collections and applications have without a site of their own."""
    return (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def page_variables(artifact: Artifact, base_url: str, children: Mapping[str, Any] | None) -> dict[str, Any]:
    """
    Return what the built-in page shows.

    ``children`` is a page of them, ``{items, total, offset, limit}``; None: they are not to be shown.

    """
    url = _url(base_url, artifact.workspace, artifact.alias)
    return {
        **_card(artifact.manifest, artifact.alias, url, summary=_MAX_TEXT),
        "type": artifact.type,
        "workspace": artifact.workspace,
        "version": artifact.versions[-1].name if artifact.versions else None,
        "links": _links(artifact.manifest),
        "services": _names(artifact.manifest.get("services")),
        "file_count": artifact.file_count,
        "files_url": f"{url}/files/",
        "zip_url": f"{url}/create-zip-file",
        "data_url": url,
        "children": None if children is None else _page(children, base_url),
    }


def _page(children: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    offset, total = children["offset"], children["total"]
    return {
        "cards": [_child(child, base_url) for child in children["items"]],
        "first": offset + 1,
        "last": offset + len(children["items"]),
        "total": total,
        "previous": offset // PAGE_SIZE if offset else None,  # numbers of pages begin with 1
        "next": offset // PAGE_SIZE + 2 if offset + PAGE_SIZE < total else None,
    }


def _child(child: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    workspace, alias = child["id"].split("/", 1)
    data_url = _url(base_url, workspace, alias)
    view_config = (child.get("config") or {}).get("view_config")
    has_view = view_config != "disabled" and (child.get("type") in BUILT_IN or bool(view_config))
    card = _card(child.get("manifest") or {}, alias, data_url, summary=_MAX_SUMMARY)
    return {
        **card,
        "type": child.get("type"),
        "url": _url(base_url, workspace, alias, kind="view") + "/" if has_view else data_url,
    }


def _card(manifest: Mapping[str, Any], alias: str, url: str, *, summary: int) -> dict[str, Any]:
    covers = manifest.get("covers")
    cover = covers[0] if isinstance(covers, list) and covers and isinstance(covers[0], str) else None
    return {
        "name": _text(manifest.get("name"), 200) or alias,
        "description": _text(manifest.get("description"), summary),
        "icon": _text(manifest.get("id_emoji"), 4),
        "cover": None if cover is None else _image(cover, url),
        "tags": [_text(tag, 40) for tag in _list(manifest.get("tags")) if isinstance(tag, str)],
    }


def _image(cover: str, url: str) -> str | None:
    """Return the address of a picture: somewhere on the web, or a file of the artifact."""
    if _scheme(cover) != "":
        return cover if _scheme(cover) == "https" else None
    return f"{url}/files/{quote(cover.removeprefix('./').lstrip('/'))}?silent=true"


def _links(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    found = [
        (label, manifest.get(key))
        for label, key in (("Source code", "git_repo"), ("Documentation", "documentation"), ("Origin", "source"))
    ]
    found += [
        (_text(link.get("label"), 60) or "Link", link.get("url"))
        for link in _list(manifest.get("links"))
        if isinstance(link, dict)
    ]
    return [{"label": label, "url": url} for label, url in found if isinstance(url, str) and _is_web(url)]


def _is_web(url: str) -> bool:
    return _scheme(url) in ("http", "https")


def _scheme(url: str) -> str | None:
    """Return the scheme of an address, "" where it is relative; None where it is none."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return None


def _names(services: object) -> list[str]:
    named = [service.get("name") or service.get("id") for service in _list(services) if isinstance(service, dict)]
    return [_text(name, 100) for name in named if isinstance(name, str)]


def _list(value: object) -> Sequence[Any]:
    return value[:_MAX_ITEMS] if isinstance(value, list) else ()


def _text(value: object, length: int) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return text if len(text) <= length else text[:length].rstrip() + "…"


def _url(base_url: str, workspace: str, alias: str, *, kind: str = "artifacts") -> str:
    return f"{base_url}/{quote(workspace, safe='')}/{kind}/{quote(alias, safe='')}"
