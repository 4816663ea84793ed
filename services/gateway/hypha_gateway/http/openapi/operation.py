from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

__all__ = ["ANY_STATUS", "Answer", "Body", "Operation", "Parameter", "Schema", "describes", "operation_of"]

Schema: TypeAlias = Mapping[str, Any]  # JSON Schema; {} is anything
Content: TypeAlias = Mapping[str, Schema]  # by media type

ANY_STATUS = 0  # for what answers in ways that only it knows

_ATTRIBUTE = "hypha_operations"
_EVERY_METHOD = "*"

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field of the query, or a header."""

    name: str
    description: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    where: str = "query"


@dataclass(frozen=True, slots=True)
class Body:
    """What a request may carry."""

    description: str
    content: Content


@dataclass(frozen=True, slots=True)
class Answer:
    """One kind of answer; without content it has no body, or none worth describing."""

    description: str
    content: Content = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # name: what it says

    @classmethod
    def json(cls, description: str, schema: Schema) -> Answer:
        return cls(description, {"application/json": schema})

    @classmethod
    def error(cls, description: str) -> Answer:
        return cls.json(description, {"$ref": "#/components/schemas/Error"})

    @classmethod
    def redirect(cls, description: str) -> Answer:
        return cls(description, headers={"Location": "where to go"})


@dataclass(frozen=True, slots=True)
class Operation:
    """
    What one method of one route does, takes and answers.

    What every route may answer (a bad path, a body that is too large, too many requests) needs no mention; ``token``
    adds what a bad one is answered with.

    """

    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    tag: str = "default"
    token: bool = False  # reads the caller's token, if there is one


def describes(operation: Operation, **methods: Operation) -> Callable[[E], E]:
    """Say what an endpoint does: the same for every method, but for those that are named (``post=…``)."""
    operations = {_EVERY_METHOD: operation, **{name.upper(): own for name, own in methods.items()}}

    def describe(endpoint: E) -> E:
        setattr(endpoint, _ATTRIBUTE, operations)
        return endpoint

    return describe


def operation_of(endpoint: object, method: str) -> Operation | None:
    """Return what was said of an endpoint with :func:`describes`."""
    operations: Mapping[str, Operation] = getattr(endpoint, _ATTRIBUTE, {})
    return operations.get(method) or operations.get(_EVERY_METHOD)
