from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

__all__ = ["GENERATED_MARK", "PAGE", "render_page"]

PAGE = "index.html"
GENERATED_MARK = '<meta name="generator" content="Hypha">'


def render_page(manifest: Mapping[str, Any], script: str, *, sections: Mapping[str, str], pyodide_url: str) -> str:
    """
    Return the page of an app whose code is in file ``script``.

    The page has no address, no name of a client and no token in it: it is told when it starts. Of the manifest it has
    what is shown before: the title.

    """
    kind = manifest["type"]
    facts: dict[str, Any] = {"script": script, "path": quote(script), "is_module": script.endswith((".js", ".mjs"))}
    if kind == "web-python":
        facts |= {"pyodide_url": pyodide_url.rstrip("/") + "/", "hypha_rpc": version("hypha-rpc")}
    template = _environment().get_template(f"{kind}.html.jinja")
    # Sections are the app's own HTML, and its page runs the app's own code anyway.
    style, window = (Markup(sections.get(name, "")) for name in ("style", "window"))  # noqa: S704
    title = str(manifest.get("name") or kind)
    return template.render(facts=facts, title=title, style=style, window=window, generated=Markup(GENERATED_MARK))  # noqa: S704


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__package__, "pages"),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
