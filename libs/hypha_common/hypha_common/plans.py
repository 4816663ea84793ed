"""
How a gateway is told to answer an HTTP request for files.

The artifacts service decides; the gateway moves the bytes, between the client and wherever they are, without keeping
them. What it is told is one of the plans below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .errors import InternalError

__all__ = ["Fetch", "Headers", "HttpCall", "Plan", "Reply", "Store", "Stored", "dump_plan", "load_plan"]

Headers: TypeAlias = list[tuple[str, str]]  # names in small letters


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request as the artifacts service sees it. Bodies stay at the gateway, but for short ones that it must read."""

    route: str  # the name of the route
    method: str
    params: Mapping[str, str]  # of the path
    query: list[tuple[str, str]]
    headers: Mapping[str, str]  # those that matter, by names in small letters
    user: dict[str, Any]  # Principal.dump()
    workspace: str  # where the caller acts
    base_url: str  # how the caller reaches this server: scheme, host and base path
    body: bytes = b""

    def dump(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def load(cls, message: Mapping[str, Any]) -> HttpCall:
        values = {name: message[name] for name in cls.__slots__}
        return cls(**{**values, "query": [(name, value) for name, value in values["query"]]})

    def first(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer this. A redirect is a reply, too."""

    status: int = 200
    headers: Headers = field(default_factory=list)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Fetch:
    """
    Answer with what ``url`` answers: its status, body, length, range and ``last-modified``.

    ``send`` are headers for it, ``headers`` replace those of its answer. ``missing`` is the detail of a 404 where there
    is nothing at ``url``.

    """

    url: str
    send: Headers = field(default_factory=list)
    headers: Headers = field(default_factory=list)
    missing: str = "File not found"


@dataclass(frozen=True, slots=True)
class Store:
    """
    PUT the body of the request to ``url``, then tell the artifacts service, which answers with a Reply.

    ``receipt`` goes back with what became of it (:class:`Stored`). ``chunked`` bodies are in AWS's own chunk encoding.

    """

    url: str
    receipt: bytes
    send: Headers = field(default_factory=list)
    max_bytes: int = 2**62
    chunked: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store said of a body that a gateway sent it."""

    receipt: bytes
    size: int
    etag: str  # without quotes

    def dump(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def load(cls, message: Mapping[str, Any]) -> Stored:
        return cls(**{name: message[name] for name in cls.__slots__})


Plan: TypeAlias = Reply | Fetch | Store

_KINDS: dict[str, type[Reply | Fetch | Store]] = {"reply": Reply, "fetch": Fetch, "store": Store}


def dump_plan(plan: Plan) -> dict[str, Any]:
    """Return a plan as it travels on the bus."""
    kind = type(plan).__name__.lower()
    return {"kind": kind, **{name: getattr(plan, name) for name in plan.__slots__}}


def load_plan(message: Mapping[str, Any]) -> Plan:
    """Reverse :func:`dump_plan`."""
    kind = _KINDS.get(message.get("kind", ""))
    if kind is None:
        raise InternalError("The artifacts service answered with an unknown plan")
    values = {name: message[name] for name in kind.__slots__ if name in message}
    for name in ("headers", "send"):
        if name in values:
            values[name] = [(key, value) for key, value in values[name]]
    return kind(**values)
