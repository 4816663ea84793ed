from __future__ import annotations

from typing import Any

__all__ = ["Conditions", "is_glob", "visible"]

_LIKE = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_", "*": "%", "?": "_"})


class Conditions:
    """A WHERE clause in the making. Values become parameters, never text; column names come from our code."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._terms: list[str] = []

    def __str__(self) -> str:
        return " AND ".join(self._terms) or "true"

    def add(self, value: Any) -> str:
        """Return the placeholder of a new parameter."""
        self.values.append(value)
        return f"${len(self.values)}"

    def text(self, term: str) -> None:
        self._terms.append(term)

    def equal(self, column: str, value: Any) -> None:
        self._terms.append(f"{column} = {self.add(value)}")

    def glob(self, column: str, pattern: str) -> None:
        """Match ``*`` (any characters) and ``?`` (any one); no term for ``*`` alone."""
        if pattern == "*":
            return
        if is_glob(pattern):
            self._terms.append(f"{column} LIKE {self.add(pattern.translate(_LIKE))}")
        else:
            self.equal(column, pattern)

    def unlike(self, column: str, pattern: str) -> None:
        """Exclude what :meth:`glob` would match."""
        self._terms.append(f"{column} NOT LIKE {self.add(pattern.translate(_LIKE))}")


def is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def visible(where: Conditions, own_workspace: str, *, unlisted: bool) -> None:
    """Restrict services ``s`` to what a caller without permission on their workspace may see (contract 01 §3.8)."""
    open_to_all = "('public', 'unlisted')" if unlisted else "('public')"
    where.text(f"(s.visibility IN {open_to_all} OR {where.add(own_workspace)} = ANY(s.authorized_workspaces))")
