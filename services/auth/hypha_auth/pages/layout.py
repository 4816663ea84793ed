from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Layout", "Response", "field", "hidden", "reply"]

Response = dict[str, Any]  # status, headers, body: what a function of an app answers (contract 01 §5.6)

_TEMPLATE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
_CLOSED_TO_FRAMES = {"X-Frame-Options": "DENY"}


class Layout:
    """
    What all pages share: the look, the policy, the cookies.

    ``frames`` are the origins whose pages may embed a page that only takes a password or a token; ``*``: any. A page
    that acts on one click, in the name of whom the browser is logged in as, is never embedded.

    """

    def __init__(self, *, public_base_url: str, frames: Iterable[str] = ("*",)) -> None:
        parts = urlsplit(public_base_url)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        # Without the origin: a browser may have come by another name than the configured one, and keeps to that.
        self.path = f"{parts.path.rstrip('/')}/public/apps/hypha-login/"
        self._secure = "; Secure" if parts.scheme == "https" else ""
        origins = list(frames)
        allowed = " ".join(["'self'", *origins])
        self._frames = "" if "*" in origins else f" frame-ancestors {allowed};"
        self._place = escape(public_base_url)

    def page(
        self,
        title: str,
        content: str,
        *,
        status: int = 200,
        script: str = "",
        framed: bool = False,
        headers: Mapping[str, Any] | None = None,
    ) -> Response:
        """
        Return a page.

        Args:
            title: plain text
            content: HTML, in which whatever came from outside is escaped
            script: JavaScript to run, in which likewise nothing of outside is code
            framed: whether it may be embedded

        """
        nonce = secrets.token_urlsafe(16)
        body = _TEMPLATE.substitute(
            title=escape(title),
            content=content,
            place=self._place,
            nonce=nonce,
            script=f'<script nonce="{nonce}">\n{script}\n</script>' if script else "",
        )
        own = f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; form-action 'self'"
        frames = self._frames if framed else " frame-ancestors 'none';"
        policy = f"default-src 'none'; base-uri 'none';{frames} {own}"
        types = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy}
        if not framed:
            types |= _CLOSED_TO_FRAMES
        return reply(status, body, types | dict(headers or {}))

    def cookie(self, name: str, value: str, life_s: float) -> str:
        """Return a Set-Cookie line; scripts of pages may read it, as clients of the hub in a page do."""
        return f"{name}={value}; Path=/; SameSite=Lax; Max-Age={int(life_s)}{self._secure}"

    def is_own_page(self, target: str) -> bool:
        """Tell whether an address leads to a page of this server, and nowhere else."""
        if not target or not target.isprintable() or "\\" in target or not target.isascii():
            return False
        return (target.startswith("/") and not target.startswith("//")) or target.startswith(self.origin + "/")


def reply(status: int, body: str, headers: Mapping[str, Any]) -> Response:
    common = {
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",  # the address holds the key of the login
        "X-Content-Type-Options": "nosniff",
    }
    return {"status": status, "headers": common | dict(headers), "body": body}


def hidden(values: Mapping[str, str]) -> str:
    """Return hidden fields of a form."""
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(text)}">\n' for name, text in values.items()
    )


def field(
    name: str,
    label: str,
    *,
    kind: str = "text",
    value: str = "",
    note: str = "",
    attributes: str = "",
    invalid: bool = False,
) -> str:
    """Return a labelled input; ``note`` and ``attributes`` are HTML of ours."""
    extra = f" {attributes}" if attributes else ""
    if value:
        extra += f' value="{escape(value)}"'
    if note:
        extra += f' aria-describedby="{name}-note"'
    if invalid:
        extra += ' aria-invalid="true"'
    below = f'\n<p class="note" id="{name}-note">{note}</p>' if note else ""
    return (
        f'<div class="field"><label for="{name}">{escape(label)}</label>\n'
        f'<input type="{kind}" id="{name}" name="{name}"{extra}>{below}</div>\n'
    )
