from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["log_entries"]

_UNNAMED = "log"


def log_entries(answer: Any, *, type: str | None = None) -> list[dict[str, Any]]:  # noqa: A002  # as in the protocol
    """
    Return ``[{type, content}]`` from what a worker's ``get_logs`` answers, old forms included (contract 03 §2.6).

    ``{items: [{type, content}], …}`` is the new form; ``{type: [text]}``, a plain list and a text are older. ``type``
    is what was asked for: entries that do not say theirs are of that.

    """
    if isinstance(answer, Mapping) and isinstance(answer.get("items"), list) and "total" in answer:
        answer = answer["items"]
    elif isinstance(answer, Mapping):
        return [
            {"type": str(kind), "content": str(text)}
            for kind, texts in answer.items()
            if isinstance(texts, list)
            for text in texts
        ]
    elif isinstance(answer, str):
        answer = [answer] if answer else []
    if not isinstance(answer, list):
        return []
    return [
        {"type": str(entry.get("type") or type or _UNNAMED), "content": str(entry.get("content", ""))}
        if isinstance(entry, Mapping)
        else {"type": type or _UNNAMED, "content": str(entry)}
        for entry in answer
    ]
