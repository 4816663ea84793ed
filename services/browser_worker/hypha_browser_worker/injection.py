from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from hypha_common.errors import BadRequest

if TYPE_CHECKING:
    from .app_config import AppConfig

__all__ = ["cookies_of", "init_script", "with_parameters"]

# Runs before any script of the page, in every frame of it: what it knows is for the app's own page alone. That other
# pages of this origin are not the app's, paths tell; pages in sandboxes have the origin "null".
_SCRIPT = """(() => {
const given = %s;
if (window !== window.top || self.origin !== given.origin) return;
const fill = (storage, items) => {
  for (const [name, value] of Object.entries(items))
    if (storage.getItem(name) === null) storage.setItem(name, value);
};
if (given.local) fill(window.localStorage, given.local);
if (given.session) fill(window.sessionStorage, given.session);
if (given.app && location.href.startsWith(given.prefix))
  Object.defineProperty(window, "__HYPHA__", {value: given.app, configurable: true, writable: true});
})();"""


def init_script(app: AppConfig) -> str:
    """Return the script that a page begins with; empty: it needs none. Raises BadRequest."""
    given: dict[str, Any] = {
        "origin": app.origin,
        "prefix": app.files_url if app.is_own else f"{app.origin}/",
        "local": _items(app.manifest, "local_storage"),
        "session": _items(app.manifest, "session_storage"),
        # A page of somebody else, which it says itself; others are where their installers put the app.
        "app": None if app.app_type == "web-app" else app.for_page(),
    }
    if not (given["local"] or given["session"] or given["app"]):
        return ""
    return _SCRIPT % json.dumps(given)


def cookies_of(app: AppConfig) -> list[dict[str, Any]]:
    """Return the cookies of the manifest: a map of names to values, or a list of cookies. Raises BadRequest."""
    cookies = app.manifest.get("cookies") or {}
    if isinstance(cookies, Mapping):
        cookies = [{"name": name, "value": value} for name, value in cookies.items()]
    if not isinstance(cookies, list) or not all(isinstance(cookie, Mapping) for cookie in cookies):
        raise BadRequest("cookies must be a map of names to values, or a list of cookies")
    found = []
    for cookie in cookies:
        if not isinstance(cookie.get("name"), str) or not cookie["name"]:
            raise BadRequest("A cookie needs a name")
        complete = {name: value for name, value in cookie.items() if value is not None}
        complete["value"] = _written(complete.get("value", ""))
        if "url" not in complete:
            complete.setdefault("domain", urlsplit(app.origin).hostname)
            complete.setdefault("path", "/")
        found.append(complete)
    return found


def with_parameters(app: AppConfig) -> str:
    """Return the address of the page with what it connects with, for pages of somebody else that ask for it."""
    parts = urlsplit(app.url)
    parameters = urlencode(
        {
            "server_url": app.server_url,
            "client_id": app.client_id,
            "workspace": app.workspace,
            "app_id": app.app_id,
            "token": app.token,
        }
    )
    query = f"{parts.query}&{parameters}" if parts.query else parameters
    return urlunsplit(parts._replace(query=query))


def _items(manifest: Mapping[str, Any], name: str) -> dict[str, str] | None:
    items = manifest.get(name)
    if not items:
        return None
    if not isinstance(items, Mapping):
        raise BadRequest(f"{name} must be a map")
    return {str(key): _written(value) for key, value in items.items()}


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
