from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from starlette.responses import HTMLResponse

__all__ = ["page", "template"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'self'"
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def page(
    title: str, body: str, *, status: int = 200, policy: str = _POLICY, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """Return a page around ``body``, which is HTML. It loads and runs nothing, unless ``policy`` says otherwise."""
    html = template("page.html").substitute(title=escape(title), style=_text("page.css"), body=body)
    return HTMLResponse(html, status, headers={"Content-Security-Policy": policy, **_HEADERS, **(headers or {})})


@cache
def template(name: str) -> Template:
    """Return a file of this package, in which ``$name`` stands for what is put in."""
    return Template(_text(name))


@cache
def _text(name: str) -> str:
    assert __package__ is not None
    return (files(__package__) / name).read_text("utf-8")
