from __future__ import annotations

from hypha_common.errors import BadRequest

__all__ = ["JAVASCRIPT", "PYTHON", "file_language", "language"]

JAVASCRIPT, PYTHON = "javascript", "python"
_NAMES = {"javascript": JAVASCRIPT, "js": JAVASCRIPT, "module": JAVASCRIPT, "python": PYTHON, "py": PYTHON}
_TYPESCRIPT = frozenset({"typescript", "ts", "tsx", "mts"})
_COMPILE_FIRST = "TypeScript does not run in browsers: compile it to JavaScript first"
_ENDINGS = {"js": JAVASCRIPT, "mjs": JAVASCRIPT, "py": PYTHON}


def language(name: str) -> str:
    """Return what a script's ``lang`` names. Raises BadRequest."""
    wanted = name.strip().lower()
    if wanted in _TYPESCRIPT:
        raise BadRequest(f"This is TypeScript; {_COMPILE_FIRST}")
    try:
        return _NAMES[wanted]
    except KeyError:
        raise BadRequest(f"Scripts of apps are in javascript or python, not in '{name}'") from None


def file_language(path: str) -> str | None:
    """Return the language that a file's name tells; None: it tells none. Raises BadRequest for what cannot run."""
    name, _, ending = path.rpartition("/")[2].rpartition(".")
    if not name:
        return None
    if ending == "txt":
        # What whoever installs apps calls scripts in all other languages.
        raise BadRequest(f"'{path}' is no script: apps are in javascript or python; {_COMPILE_FIRST}")
    return language("typescript") if ending in _TYPESCRIPT else _ENDINGS.get(ending)
