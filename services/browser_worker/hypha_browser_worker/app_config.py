from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from hypha.workers.base import WorkerConfig
from hypha_common.errors import BadRequest

from .templates import page_config

__all__ = ["AppConfig"]

_DEFAULT_TIMEOUT_S = 60.0
_EXTERNAL = ("http", "https")
_INLINE = ("about", "data")


@dataclass(frozen=True, slots=True)
class AppConfig:
    """What ``start`` was asked for, as far as a browser is concerned, with everything in it checked."""

    session_id: str  # workspace/client_id
    workspace: str
    client_id: str
    app_id: str
    token: str
    manifest: Mapping[str, Any]
    server_url: str  # of the hub, as this worker reaches it
    files_url: str  # the app's files are below it; ends with a slash
    view: Mapping[str, str]  # which version of the files
    entry_point: str
    url: str  # what is opened
    is_own: bool  # a file of the app; else a page somewhere else
    timeout_s: float

    @classmethod
    def of(cls, config: WorkerConfig, server_url: str) -> AppConfig:
        """Read what the server sent; users may have put something of theirs in it. Raises BadRequest."""
        workspace, client_id, app_id = (_text(config, name) for name in ("workspace", "client_id", "app_id"))
        session_id = f"{workspace}/{client_id}"
        if config["id"] != session_id:
            raise BadRequest(f"The session of {session_id} cannot have the id {config['id']}")
        manifest = config.get("manifest") or {}
        if not isinstance(manifest, Mapping):
            raise BadRequest("manifest must be a map")
        files_url = f"{server_url}/{quote(workspace, safe='')}/artifacts/{quote(app_id, safe='')}/files/"
        entry = config.get("entry_point") or manifest.get("entry_point")
        url, is_own = _page(entry, files_url)
        version = config.get("version")
        stage = bool(config.get("stage"))
        view = {"stage": "true"} if stage else {"version": str(version)} if version else {}
        timeout_s = config.get("timeout") or _DEFAULT_TIMEOUT_S
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or timeout_s <= 0:
            raise BadRequest("timeout must be a number of seconds")
        return cls(
            session_id, workspace, client_id, app_id, str(config.get("token") or ""), manifest, server_url, files_url,
            view, str(entry), url, is_own, float(timeout_s),
        )  # fmt: skip

    @property
    def app_type(self) -> str:
        return str(self.manifest.get("type") or "")

    @property
    def origin(self) -> str:
        """Where the page comes from: ``https://example.org``; of a page without an address, the hub's."""
        parts = urlsplit(self.url if self.url.startswith("http") else self.server_url)
        return f"{parts.scheme}://{parts.netloc}"

    def file_url(self, path: str) -> str:
        """Return the address of one of the app's files. Raises BadRequest."""
        return self.files_url + _file_path(path, "It")

    def for_page(self) -> dict[str, Any]:
        """Return what the page is told, its token included."""
        return {
            "server_url": self.server_url,
            "workspace": self.workspace,
            "client_id": self.client_id,
            "app_id": self.app_id,
            "token": self.token,
            "config": {**page_config(self.manifest), "app_id": self.app_id, "server_url": self.server_url},
        }


def _text(config: Mapping[str, Any], name: str) -> str:
    value = config.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} must be text")
    return value


def _page(entry: object, files_url: str) -> tuple[str, bool]:
    """Return the address of an entry point, and whether it is a file of the app. Raises BadRequest."""
    if not isinstance(entry, str) or not entry:
        raise BadRequest("The app has no entry_point")
    scheme = urlsplit(entry).scheme.lower()
    if scheme in _EXTERNAL:
        if not urlsplit(entry).hostname:
            raise BadRequest("entry_point is no address of a page")
        return entry, False
    if scheme in _INLINE:
        return entry, False
    if scheme:
        raise BadRequest("entry_point must be a file of the app, or an address that begins with https:")
    return files_url + _file_path(entry, "entry_point"), True


def _file_path(path: str, what: str) -> str:
    path = path.lstrip("/")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise BadRequest(f"{what} must be the path of a file")
    return quote(path)
