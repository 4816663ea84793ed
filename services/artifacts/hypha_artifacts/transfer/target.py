from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from hypha_common.errors import BadRequest

__all__ = ["Target", "check_server_url"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where files are kept: ``WORKSPACE/ALIAS[:PATH]``."""

    workspace: str
    alias: str
    path: str  # without leading slash; a folder where it is empty or ends with a slash

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises BadRequest."""
        name, _, path = text.partition(":")
        workspace, slash, alias = name.partition("/")
        if not slash or not workspace or not alias or "/" in alias:
            raise BadRequest(f"Name the artifact as WORKSPACE/ALIAS or WORKSPACE/ALIAS:PATH, not {text!r}")
        return cls(workspace, alias, path.lstrip("/"))

    @property
    def artifact_id(self) -> str:
        return f"{self.workspace}/{self.alias}"

    @property
    def url_path(self) -> str:
        """Return the artifact's own part of addresses, percent-encoded."""
        return f"/{quote(self.workspace, safe='')}/artifacts/{quote(self.alias, safe='')}"

    def below(self, relative: str) -> str:
        """Return the path in the artifact of what is ``relative`` to the folder that is meant."""
        return "/".join(part for part in (self.path.strip("/"), relative) if part)


def check_server_url(url: str | None) -> str:
    """Return the address of a server without slash at its end. Raises BadRequest."""
    if not url:
        raise BadRequest("Which server? Give --server-url, or set HYPHA_SERVER_URL")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise BadRequest(f"--server-url must be an http address, not {url!r}")
    return url.rstrip("/")
