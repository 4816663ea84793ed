from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hypha_common.errors import BadRequest

from .bindings import Bindings
from .patterns import like_pattern, wildcard_pattern

__all__ = ["ManifestFilters", "joined"]

_SCALARS = (str, int, float, bool, type(None))


def joined(conditions: Iterable[str], word: str) -> str:
    """Return conditions connected by ``AND`` or ``OR``; of none, ``AND`` is true and ``OR`` false."""
    texts = list(conditions)
    if not texts:
        return "true" if word == "AND" else "false"
    return texts[0] if len(texts) == 1 else f"({f' {word} '.join(texts)})"


class ManifestFilters:
    """
    Turns a filter on a manifest, ``{key: wanted}``, into conditions (contract 02 §2.4).

    ``document`` is the SQL of the manifest. Where it helps, conditions are containments, which the index on manifests
    answers.

    """

    def __init__(self, document: str, bindings: Bindings) -> None:
        self._document = document
        self._bindings = bindings

    def conditions(self, filters: object) -> Iterator[str]:
        """Yield one condition for each key. Raises BadRequest."""
        if not isinstance(filters, dict):
            raise BadRequest(f"The filter 'manifest' must be a map, not {type(filters).__name__}")
        for key, wanted in filters.items():
            if key in ("$and", "$or"):
                alternatives = _items(key, wanted)
                yield joined((joined(self.conditions(each), "AND") for each in alternatives), _word(key))
            elif key.startswith("$"):
                raise BadRequest(f"Unknown filter operator: {key}")
            else:
                yield self._wanted(key, wanted)

    def _wanted(self, key: str, wanted: Any) -> str:
        if isinstance(wanted, dict) and any(name.startswith("$") for name in wanted):
            return joined((self._operator(key, name, value) for name, value in wanted.items()), "AND")
        if isinstance(wanted, str) and "*" in wanted:
            return self._like(key, wildcard_pattern(wanted))
        if isinstance(wanted, (list, tuple)):
            return self._contains({key: list(wanted)})
        return self._equals(key, wanted)

    def _operator(self, key: str, name: str, value: Any) -> str:
        match name:
            case "$like":
                if not isinstance(value, str):
                    raise BadRequest(f"$like needs text, not {type(value).__name__}")
                return self._like(key, like_pattern(value))
            case "$in":
                return joined((self._is_or_has(key, item) for item in _scalars(name, value)), "OR")
            case "$all":
                return self._contains({key: _items(name, value)})
            case "$and" | "$or":
                return joined((self._wanted(key, item) for item in _items(name, value)), _word(name))
        raise BadRequest(f"Unknown filter operator: {name}")

    def _equals(self, key: str, wanted: Any) -> str:
        if wanted is None:  # as good as missing
            return f"COALESCE({self._value(key)}, 'null') = 'null'"
        contained = self._contains({key: wanted})
        if isinstance(wanted, dict):  # containment would allow more keys
            return f"({contained} AND {self._value(key)} = {self._bindings.json(wanted)})"
        return contained

    def _is_or_has(self, key: str, item: Any) -> str:
        """A list fits when it has the item, anything else when it is the item."""
        return f"({self._equals(key, item)} OR {self._contains({key: [item]})})"

    def _contains(self, part: dict[str, Any]) -> str:
        return f"{self._document} @> {self._bindings.json(part)}"

    def _like(self, key: str, pattern: str) -> str:
        value, text = self._value(key), self._bindings.text(pattern)
        return f"(jsonb_typeof({value}) = 'string' AND {value} #>> '{{}}' LIKE {text})"

    def _value(self, key: str) -> str:
        return f"({self._document} -> {self._bindings.text(key)})"


def _word(operator: str) -> str:
    return "AND" if operator == "$and" else "OR"


def _items(operator: str, value: object) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise BadRequest(f"{operator} needs a list, not {type(value).__name__}")
    return list(value)


def _scalars(operator: str, value: object) -> list[Any]:
    items = _items(operator, value)
    for item in items:
        if not isinstance(item, _SCALARS):
            raise BadRequest(f"{operator} needs a list of texts, numbers or switches, not {type(item).__name__}")
    return items
