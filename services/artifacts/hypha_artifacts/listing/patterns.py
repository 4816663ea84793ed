from __future__ import annotations

__all__ = ["keyword_pattern", "like_pattern", "wildcard_pattern"]


def keyword_pattern(keyword: str) -> str:
    """Return the LIKE pattern of what contains a keyword."""
    return f"%{_literal(keyword)}%"


def wildcard_pattern(text: str) -> str:
    """Return the LIKE pattern of a text in which ``*`` stands for anything, and nothing else is special."""
    return _literal(text).replace("*", "%")


def like_pattern(text: str) -> str:
    """Return the pattern of ``$like``: SQL's own, with ``*`` for ``%``. There is no escape."""
    return text.replace("\\", "\\\\").replace("*", "%")


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
