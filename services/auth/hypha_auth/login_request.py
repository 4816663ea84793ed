from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from hypha_common.errors import BadRequest

from .issuing import life_of

__all__ = ["LoginRequest", "check_workspace", "is_storable", "life_in"]

_MAX_VALUE = 2048
_MAX_WORKSPACE = 255
_OFF = ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """
    What a login page was opened with: its URL parameters (contract 01 §4.5), as text that nobody has checked.

    A login without a key logs in the browser alone.

    """

    key: str = ""
    workspace: str = ""
    expires_in: str = ""
    redirect: str = ""
    close: str = ""
    close_after_logout: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LoginRequest:
        """Take the known parameters out of a query or a form; what is no short text counts as absent."""
        known = {}
        for field in fields(cls):
            value = values.get(field.name)
            if isinstance(value, str) and len(value) <= _MAX_VALUE:
                known[field.name] = value
        return cls(**known)

    @property
    def closes(self) -> bool:
        """Whether the window is to close when the login is done: unless it was asked not to."""
        return self.close.lower() not in _OFF

    @property
    def life_s(self) -> int | None:
        """The life that was asked for the program's token. Raises BadRequest."""
        return life_in(self.expires_in)

    def given(self) -> dict[str, str]:
        """Return the parameters that are there."""
        return {name: value for name, value in asdict(self).items() if value}

    def query(self, **more: str) -> str:
        """Return them as a query string, with ``more``."""
        return urlencode({**self.given(), **more})

    def without_key(self) -> LoginRequest:
        return replace(self, key="", workspace="", expires_in="")


def life_in(expires_in: float | str | None) -> int | None:
    """Read a life in seconds as a query string or a program writes it; empty is absent. Raises BadRequest."""
    if expires_in is None or expires_in == "":
        return None
    try:
        return life_of(float(expires_in))
    except ValueError:
        raise BadRequest("expires_in must be a number of seconds") from None


def check_workspace(name: str | None) -> str | None:
    """Return the name, or None for an empty one. Raises BadRequest."""
    if name and not is_storable(name, _MAX_WORKSPACE):
        raise BadRequest("Invalid workspace")
    return name or None


def is_storable(text: str, max_length: int) -> bool:
    """Tell whether a text may be kept: PostgreSQL holds no NUL, and UTF-8 no lone surrogate."""
    return len(text) <= max_length and "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
