from __future__ import annotations

from typing import Any

__all__ = ["Record"]


class Record(dict[str, Any]):
    """
    A map whose entries are attributes, too: ``record.name`` is ``record["name"]``.

    RPC clients send it as the plain map that it is.

    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return a plain copy; options are those of pydantic, and ignored."""
        return dict(self)
