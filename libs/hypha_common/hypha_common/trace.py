"""
Which request a piece of work belongs to: W3C trace context, https://www.w3.org/TR/trace-context/.

A context is kept as the text of its ``traceparent``, ``00-<trace id>-<span id>-<flags>``: most only pass it on, and a
slice of it is the id that is logged and shown to users. Nothing here does I/O.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Protocol

__all__ = [
    "BUS",
    "CLIENT",
    "HEADER",
    "KEY",
    "RPC",
    "SERVER",
    "Recorder",
    "Span",
    "call",
    "current",
    "enter",
    "incoming",
    "is_sampled",
    "leave",
    "new",
    "parse",
    "record_with",
    "start",
    "start_call",
    "trace_id",
    "use",
]

KEY = "traceparent"  # in requests on the bus and in the headers of frames to roles
HEADER = KEY.encode()  # of HTTP

CLIENT, SERVER = "client", "server"  # kinds of spans
BUS, RPC = "hypha.bus", "hypha"  # what carries a call

# Not the module's generator: a program that seeds that one would get the same ids again.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)

# Version 00 ends with the flags; what a later version adds follows a dash, and is not ours to understand.
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MAX_CHARACTERS = 512
_MAX_NAME = 128
_ID = slice(3, 35)

_current: ContextVar[str] = ContextVar("traceparent", default="")


class Span(Protocol):
    """A piece of work that is being recorded."""

    context: str  # the traceparent of what it causes

    def end(self, error: BaseException | None = None, *, name: str = "", **attributes: Any) -> None:
        """Record that it ended; ``name`` and ``attributes`` may be known only now."""


class Recorder(Protocol):
    """What keeps spans; see :mod:`hypha_common.tracing`."""

    ratio: float  # of the requests that come from outside, how many are recorded

    def start(self, name: str, kind: str, parent: str, root: bool, attributes: Mapping[str, Any]) -> Span: ...


_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Record sampled requests of this process from now on, or no more."""
    global _recorder
    _recorder = recorder


def new(*, recorded: bool = True) -> str:
    """Return the context of a request that begins here; without ``recorded`` no span is made of it."""
    digits = f"{_random.getrandbits(192):048x}"
    return f"00-{digits[:32]}-{digits[32:]}-{_flags() if recorded else '00'}"


def parse(text: str) -> str | None:
    """Return a ``traceparent`` as ours, of version 00, or None where it is not valid."""
    found = _FORM.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    if found is None or (found[4] is not None and text.startswith("00")):
        return None
    return f"00-{found[1]}-{found[2]}-{'01' if int(found[3], 16) & 1 else '00'}"


def incoming(text: object) -> str:
    """
    Return the context of a request from outside the cluster.

    Its id is taken over. Whether it is recorded is for this cluster to decide, and not by the id, which may have been
    chosen to be recorded: strangers must not be able to flood a collector.

    """
    known = parse(text) if isinstance(text, str) else None
    return new() if known is None else known[:-2] + _flags()


def current() -> str:
    """Return the context of the work that is being done; empty where it belongs to no request."""
    return _current.get()


def trace_id(context: str | None = None) -> str:
    """Return the id that is logged and shown: 32 hex digits, of the current context by default; empty without one."""
    return (_current.get() if context is None else context)[_ID]


def is_sampled(context: str) -> bool:
    return context.endswith("1")


def use(context: str) -> Token[str]:
    """Do what follows in ``context``; :meth:`leave` takes what this returns. Tasks that are started inherit it."""
    return _current.set(context)


def enter(context: object) -> Token[str]:
    """
    Do what follows in ``context``, as another process of the cluster passed it on; one that is not valid is a new one.

    Only requests from outside are recorded, and not what processes ask each other on their own. See :func:`use`.

    """
    known = parse(context) if isinstance(context, str) else None
    return _current.set(known or new(recorded=False))


def leave(token: Token[str]) -> None:
    """Go back to the context before."""
    _current.reset(token)


def start(
    name: str, kind: str, attributes: Mapping[str, Any], *, context: str | None = None, root: bool = False
) -> Span | None:
    """
    Begin to record a piece of work of ``context``, the current one by default; None where it is not recorded.

    ``root``: the request begins here, so that no other span is its parent.

    """
    if _recorder is None:
        return None
    parent = _current.get() if context is None else context
    return _recorder.start(name, kind, parent, root, attributes) if is_sampled(parent) else None


def start_call(method: str, kind: str, system: str, *, context: str | None = None, root: bool = False) -> Span | None:
    """Begin to record a call: ``method`` is a subject where ``system`` is BUS, else that of an RPC frame."""
    if _recorder is None or not is_sampled(_current.get() if context is None else context):
        return None
    name = _shown(method)
    return start(name, kind, {"rpc.system.name": system, "rpc.method": name}, context=context, root=root)


def call(method: str, kind: str, system: str) -> _Scope:
    """Record what happens inside ``with`` as a call, as :func:`start_call` does; what it causes is its child."""
    started = start_call(method, kind, system)
    return _NOTHING if started is None else _Recorded(started)


class _Scope:
    """Nothing is recorded."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class _Recorded(_Scope):
    __slots__ = ("_span", "_token")

    def __init__(self, started: Span) -> None:
        self._span = started
        self._token: Token[str] | None = None

    def __enter__(self) -> None:
        self._token = _current.set(self._span.context)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
        self._span.end(error)


_NOTHING = _Scope()


def _shown(method: str) -> str:
    """Return a method as spans are named: without ids, for nobody may learn those of sessions."""
    if method.startswith("hy."):
        kind, owner, *_, verb = method.split(".")[1:]
        return f"gateway/{verb}" if kind == "g" else f"{owner}/{verb}"
    return method.removeprefix("services.")[:_MAX_NAME] if method.startswith("services.") else "callback"


def _flags() -> str:
    return "01" if _recorder is not None and _random.random() < _recorder.ratio else "00"
