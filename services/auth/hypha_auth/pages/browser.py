from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hypha_common.errors import PayloadTooLarge

__all__ = ["BrowserRequest"]

_MAX_FORM_BYTES = 64 * 1024
_MAX_FIELDS = 50
_FRAMES = ("iframe", "frame", "embed", "object", "fencedframe")


@dataclass(frozen=True, slots=True)
class BrowserRequest:
    """One request for a page, read from the event that the gateway makes of it (contract 01 §5.6)."""

    method: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    headers: Mapping[str, str]  # names in small letters
    origin: str  # of this server
    address: str  # of whoever sent it, as the gateway saw it; empty where no gateway says so

    @classmethod
    def of(cls, event: Mapping[str, Any], *, origin: str, address: str = "") -> BrowserRequest:
        """Read an event; what makes no sense in it counts as absent. Raises PayloadTooLarge."""
        headers = event.get("headers")
        body = event.get("body") or b""
        if not isinstance(body, (str, bytes, bytearray)):
            body = b""
        if len(body) > _MAX_FORM_BYTES:
            raise PayloadTooLarge("The form is too long")
        text = body if isinstance(body, str) else bytes(body).decode("utf-8", "replace")
        return cls(
            method=str(event.get("method") or "GET").upper(),
            query=_fields(str(event.get("query_string") or "")),
            form=_fields(text),
            headers={str(n).lower(): str(v) for n, v in headers.items()} if isinstance(headers, Mapping) else {},
            origin=origin,
            address=address,
        )

    @property
    def fields(self) -> dict[str, str]:
        """The parameters of the address, and over them those of the form."""
        return {**self.query, **self.form}

    @property
    def is_own(self) -> bool:
        """Whether a page of this server sent the form. False also where a browser does not say."""
        site = self.headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        return self._is_here(self.headers.get("origin", ""))

    @property
    def is_foreign(self) -> bool:
        """Whether a page of somebody else sent the form."""
        told = "sec-fetch-site" in self.headers or "origin" in self.headers
        return told and not self.is_own and self.headers.get("sec-fetch-site") != "none"

    @property
    def is_framed(self) -> bool:
        """Whether the page is shown inside another one."""
        return self.headers.get("sec-fetch-dest") in _FRAMES

    @property
    def opened_by(self) -> str:
        """The origin of the page that led here, where that is another one than this server."""
        parts = urlsplit(self.headers.get("referer", ""))
        origin = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme not in ("http", "https") or not parts.netloc or self._is_here(origin):
            return ""
        return origin[:200]

    def cookie(self, name: str) -> str:
        for crumb in self.headers.get("cookie", "").split(";"):
            key, _, value = crumb.strip().partition("=")
            if key == name and value:
                return value.strip('"')
        return ""

    def _is_here(self, origin: str) -> bool:
        # Behind a name that nobody has configured, the Host header is what the browser believes it talks to.
        return origin == self.origin or (bool(origin) and urlsplit(origin).netloc == self.headers.get("host"))


def _fields(text: str) -> dict[str, str]:
    try:
        parsed = parse_qs(text, max_num_fields=_MAX_FIELDS, errors="replace")
    except ValueError:
        return {}
    return {name: values[-1] for name, values in parsed.items()}
