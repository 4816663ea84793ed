from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypha_common.ids import Address, ServiceId
from hypha_common.service_tree import is_function

__all__ = ["Worker"]

_MAX_TEXT = 2000  # characters
_MAX_TYPES = 100
_MAX_FUNCTIONS = 200
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Worker:
    """A service of type ``server-app-worker``, as its own client describes it (contract 03 §2.1)."""

    service_id: ServiceId
    name: str
    description: str
    supported_types: tuple[str, ...]
    use_local_url: bool | str
    functions: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by dotted path; parameters, if it says them

    @property
    def id(self) -> str:
        """The full id: ``workspace/client:service``."""
        return self.service_id.full

    @property
    def address(self) -> Address:
        return Address(self.service_id.workspace, self.service_id.client)

    def has(self, function: str) -> bool:
        """Tell whether it offers an optional function, such as ``compile``."""
        return function in self.functions

    def parameters(self, function: str) -> frozenset[str]:
        """Return the names of a function's parameters; none where the worker does not say them."""
        return self.functions.get(function, frozenset())

    @classmethod
    def of(cls, service_id: ServiceId, encoded: Mapping[str, Any]) -> Worker:
        """Read what a client answered; whatever is malformed counts as absent."""
        types = encoded.get("supported_types")
        local = encoded.get("use_local_url")
        return cls(
            service_id,
            str(encoded.get("name") or service_id.service)[:_MAX_TEXT],
            str(encoded.get("description") or "")[:_MAX_TEXT],
            tuple(kind for kind in types[:_MAX_TYPES] if isinstance(kind, str)) if isinstance(types, list) else (),
            local if isinstance(local, (bool, str)) else False,
            dict(found for found, _ in zip(_functions(encoded), range(_MAX_FUNCTIONS), strict=False)),
        )


def _functions(encoded: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, frozenset[str]]]:
    for name, value in encoded.items():
        if is_function(value):
            yield f"{prefix}{name}", _parameters(value)
        elif isinstance(value, Mapping) and depth < _MAX_DEPTH:
            yield from _functions(value, f"{prefix}{name}.", depth + 1)


def _parameters(function: Mapping[str, Any]) -> frozenset[str]:
    schema = function.get("_rschema")
    parameters = schema.get("parameters") if isinstance(schema, Mapping) else None
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return frozenset(map(str, properties)) if isinstance(properties, Mapping) else frozenset()
