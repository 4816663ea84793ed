from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypha_common.errors import BadRequest, HyphaError

from .app_files import AppFiles
from .languages import JAVASCRIPT, PYTHON, file_language
from .markup import is_markup, is_page
from .page import GENERATED_MARK, PAGE, render_page
from .plugin import read_plugin

__all__ = ["DEFAULT_PYODIDE_URL", "SOURCE", "compile"]

DEFAULT_PYODIDE_URL = "https://cdn.jsdelivr.net/pyodide/v0.28.0/full/"
_LANGUAGES = {"window": JAVASCRIPT, "web-worker": JAVASCRIPT, "web-python": PYTHON}
_TYPES = (*_LANGUAGES, "iframe", "hypha", "web-app")
_HTML = (".html", ".htm")
SOURCE = "source"  # where a source is whose name nobody said
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)


def compile(  # noqa: A001
    manifest: Mapping[str, Any], files: Iterable[Mapping[str, Any]] | None, config: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """
    Make the page that runs an app: return its manifest, with the page as ``entry_point``, and all of its files.

    What is a page already (raw HTML, ready files, an address) stays as it is. Of ``config`` are read ``pyodide_url``,
    where web-python apps load Pyodide from, and ``tag``, the tag of a plugin of type ``hypha``. Raises BadRequest, with
    a sentence for whoever installs the app.

    """
    config = config or {}
    made, app = dict(manifest), AppFiles(files)
    entry = made.get("entry_point") or SOURCE
    if not isinstance(entry, str):
        raise BadRequest("'entry_point' must be the name of a file")
    if made.get("type") not in _TYPES:
        raise BadRequest(f"Browsers run apps of the types {', '.join(_TYPES)}, not '{made.get('type')}'")
    if made["type"] == "web-app":
        return _web_app(made, app)
    if _ADDRESS.match(entry):
        return made, app.list()
    if _is_page(entry, app):
        return _ready(made, entry, app)
    sections: dict[str, str] = {}
    if _has(SOURCE, app, is_markup):
        made, entry, sections = _unpack_plugin(made, app, str(config["tag"]) if config.get("tag") else None)
    if made["type"] == "hypha":
        raise BadRequest(
            "Apps of type hypha are plugin files, with <config> and <script>, or HTML; "
            f"for a plain script say its type: {', '.join(_LANGUAGES)}"
        )
    if made["type"] == "iframe":
        raise BadRequest("Apps of type iframe are pages: install HTML, or files with a page as entry_point")
    return _compile_script(made, entry, app, sections, str(config.get("pyodide_url") or DEFAULT_PYODIDE_URL))


def _web_app(manifest: dict[str, Any], app: AppFiles) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    entry = manifest.get("entry_point")
    if not isinstance(entry, str) or not (_ADDRESS.match(entry) or entry.lower().startswith(("data:", "about:"))):
        raise BadRequest("The entry_point of a web-app is the address of a page: https://…")
    return manifest, app.list()


def _is_page(entry: str, app: AppFiles) -> bool:
    if entry.lower().endswith(_HTML):
        if entry in app and not app.text(entry).lstrip("\ufeff \t\r\n").startswith("<"):
            raise BadRequest(f"File '{entry}' is no HTML page; scripts have names like main.js")
        return True
    return _has(entry, app, is_page)


def _has(path: str, app: AppFiles, test: Callable[[str], bool]) -> bool:
    """Tell whether there is a text file that passes a test."""
    if path not in app:
        return False
    try:
        return test(app.text(path))
    except HyphaError:
        return False


def _ready(manifest: dict[str, Any], entry: str, app: AppFiles) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Take a page as it is; one whose name does not say that it is one becomes ``index.html``."""
    if manifest["type"] == "hypha":
        manifest["type"] = "window"
    if not entry.lower().endswith(_HTML):
        text = app.text(entry)
        app.remove(entry)
        app.put(PAGE, text)
        entry = PAGE
    manifest["entry_point"] = entry
    return manifest, app.list()


def _unpack_plugin(
    manifest: dict[str, Any], app: AppFiles, tag: str | None
) -> tuple[dict[str, Any], str, dict[str, str]]:
    """
    Part a plugin file; return the manifest, the name of the file with the script, and what the page shows.

    Whoever installs apps has taken the first script out of it already; the one for the tag takes its place.

    """
    legacy = manifest["type"] == "hypha"
    plugin = read_plugin(app.text(SOURCE), tag, default_lang="" if legacy else "json")
    made = {**manifest, **plugin.config}
    for name in [name for name, value in plugin.config.items() if value is None]:
        del made[name]
    made.setdefault("type", manifest["type"])
    if made["type"] == "hypha" and plugin.script_name.endswith(".py"):
        made["type"] = "web-python"  # the only type in which Python runs
    if made["type"] not in (*_LANGUAGES, "iframe"):
        types = ", ".join(_LANGUAGES)
        raise BadRequest(f"The <config> of a plugin must say its type, one of {types}; not '{made['type']}'")
    if not plugin.script_name and made["type"] != "iframe":
        raise BadRequest("The plugin has no <script>")
    app.remove(SOURCE)
    if plugin.script_name:
        app.put(plugin.script_name, plugin.script)
    return made, plugin.script_name, {"style": plugin.style, "window": plugin.window}


def _compile_script(
    manifest: dict[str, Any], entry: str, app: AppFiles, sections: Mapping[str, str], pyodide_url: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kind = manifest["type"]
    if entry not in app:
        raise BadRequest(f"There is no file '{entry}', which the entry_point names")
    if not all(part.strip(".") for part in entry.split("/")):
        raise BadRequest(f"'{entry}' is no path of a file in an app")
    if file_language(entry) not in (None, _LANGUAGES[kind]):
        raise BadRequest(f"Apps of type {kind} are in {_LANGUAGES[kind]}; '{entry}' is not")
    if not app.text(entry).strip():
        raise BadRequest(f"File '{entry}' is empty")
    if PAGE in app and GENERATED_MARK not in app.text(PAGE):
        raise BadRequest(f"There is a file '{PAGE}' already: make it the entry_point, or give it another name")
    _check_requirements(kind, manifest.get("requirements"))
    if manifest.get("required_artifact_files") and kind != "web-python":
        raise BadRequest("'required_artifact_files' are for apps of type web-python")
    app.put(PAGE, render_page(manifest, entry, sections=sections, pyodide_url=pyodide_url))
    manifest["entry_point"] = PAGE
    return manifest, app.list()


def _check_requirements(kind: str, requirements: Any) -> None:
    """Refuse what the page could not load anyway, where somebody sees it."""
    if requirements is None:
        return
    if isinstance(requirements, str):
        requirements = [requirements]
    if not isinstance(requirements, list) or not all(isinstance(name, str) and name for name in requirements):
        raise BadRequest("'requirements' must be a list of names or addresses")
    if kind == "web-python":
        return
    for address in requirements:
        bare = re.sub(r"^(js|mjs|css):(?!//)", "", address)
        if not re.match(r"https?://|[^:]*\.(m?js|css)$", bare, re.IGNORECASE):
            raise BadRequest(f"Requirements of {kind} apps are addresses of scripts, not '{address}'")
        if kind == "web-worker" and (address.startswith("css:") or bare.lower().endswith(".css")):
            raise BadRequest(f"A web-worker app shows nothing: it cannot use '{address}'")
