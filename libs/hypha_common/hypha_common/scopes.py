"""
The ``scope`` claim of a token: words separated by blanks (contract 01 §4.3).

``ws:<id>#<r|rw|a>`` grants, ``cid:<client>`` binds to a client, ``wid:<workspace>`` is the current workspace, and every
other word is an extra scope. Of those ``app:<app id>`` says which app the bearer is an instance of; only the cluster
itself writes it. Ids may hold blanks, so whitespace and ``%`` are written ``%XX`` inside a word.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from .errors import BadRequest
from .principal import Permission, Scope

__all__ = ["app_of", "app_scope", "check_extra_scopes", "format_scope", "is_app_scope", "is_specialized", "parse_scope"]

_RESERVED = ("ws:", "cid:", "wid:")
_APP = "app:"
_UNSAFE = re.compile(r"[%\s]")


def format_scope(scope: Scope) -> str:
    """Return the scope as one string. Raises BadRequest where an extra scope could be read as a grant."""
    words = [f"ws:{_escape(name)}#{permission.wire}" for name, permission in scope.workspaces.items() if permission]
    if scope.client_id:
        words.append(f"cid:{_escape(scope.client_id)}")
    if scope.current_workspace:
        words.append(f"wid:{_escape(scope.current_workspace)}")
    words.extend(_words(scope.extra_scopes or ()))
    return " ".join(words)


def parse_scope(text: str) -> Scope:
    """Reverse :func:`format_scope`. Raises BadRequest for a grant that names no workspace or no known permission."""
    workspaces: dict[str, Permission] = {}
    client_id = current = None
    extra: list[str] = []
    for word in text.split():
        if word.startswith("ws:"):
            name, _, short = word[3:].rpartition("#")
            if not name:
                raise BadRequest(f"Invalid scope: {word}")
            name = unquote(name) if "%" in name else name
            workspaces[name] = max(workspaces.get(name, Permission.NONE), Permission.from_wire(short))
        elif word.startswith("cid:"):
            client_id = unquote(word[4:]) or None
        elif word.startswith("wid:"):
            current = unquote(word[4:]) or None
        else:
            extra.append(word)
    return Scope(workspaces, current_workspace=current, client_id=client_id, extra_scopes=tuple(extra))


def check_extra_scopes(extra: object) -> tuple[str, ...]:
    """
    Return extra scopes that somebody asks for, or raise BadRequest.

    They cannot pass for grants or for more than one word each, and nobody makes himself an instance of an app.

    """
    words = _words(extra)
    for word in words:
        if is_app_scope(word):
            raise BadRequest(f"Invalid extra scope: {word}")
    return words


def app_scope(app_id: str) -> str:
    """Return the extra scope of an instance of an app."""
    return f"{_APP}{_escape(app_id)}"


def is_app_scope(word: str) -> bool:
    return word.startswith(_APP)


def app_of(extra: tuple[str, ...] | None) -> str | None:
    """Return the app that the bearer of these extra scopes is an instance of; None: of none."""
    return next((unquote(word[len(_APP) :]) for word in extra or () if is_app_scope(word)), None)


def _words(extra: object) -> tuple[str, ...]:
    if not isinstance(extra, (list, tuple)):
        raise BadRequest("extra_scopes must be a list of strings")
    for word in extra:
        if not isinstance(word, str) or not word or any(c.isspace() for c in word) or word.startswith(_RESERVED):
            raise BadRequest(f"Invalid extra scope: {word}")
    return tuple(extra)


def is_specialized(extra: tuple[str, ...] | None) -> bool:
    """Tell whether a token serves only the endpoints that ask for one of its extra scopes (``file:download``)."""
    return any(":" in word and not is_app_scope(word) for word in extra or ())


def _escape(text: str) -> str:
    return _UNSAFE.sub(lambda match: quote(match.group(), safe=""), text)
