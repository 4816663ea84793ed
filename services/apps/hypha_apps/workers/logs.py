from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["log_entries"]


def log_entries(answer: Any) -> list[dict[str, Any]]:
    """
    Return ``[{type, content}]`` from what a worker's ``get_logs`` answers, old forms included (contract 03 §2.6).

    ``{items: [{type, content}], …}`` is the new form; ``{type: [text]}`` and a plain list are older.

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
    if not isinstance(answer, list):
        return []
    return [
        {"type": str(entry.get("type") or "log"), "content": str(entry.get("content", ""))}
        if isinstance(entry, Mapping)
        else {"type": "log", "content": str(entry)}
        for entry in answer
    ]
