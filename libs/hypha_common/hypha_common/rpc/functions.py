from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hypha_common.errors import BadRequest, PermissionDenied

__all__ = ["Identity", "Importer", "RemoteFunction"]

CALL_TIMEOUT_S = 30.0
INTERFACE_TIMEOUT_S = 10.0  # `_rintf_` callbacks: whoever holds them may have gone (contract 01 §2.3)


@dataclass(frozen=True, slots=True)
class Identity:
    """In whose name frames are sent: ``from``, ``ws`` and the packed ``user``."""

    sender: str
    workspace: str
    user: bytes


class Calls(Protocol):
    """What remote functions need of the peer."""

    async def request(
        self,
        to: str,
        method: str,
        args: list[Any],
        kwargs: dict[str, Any] | None,
        *,
        identity: Identity,
        timeout: float = ...,
        parent: str | None = ...,
        encode: bool = ...,
        decode: bool = ...,
        ends: str | None = ...,
    ) -> Any: ...

    def notify(
        self, to: str, method: str, args: list[Any], *, identity: Identity, parent: str | None = ...
    ) -> None: ...

    def own_function(self, method: str, caller: str) -> Callable[..., Any] | None: ...

    def iterate_as(
        self, generator: Mapping[str, Any], *, origin: str, identity: Identity, timeout: float, decode: bool
    ) -> AsyncIterator[Any]: ...


class RemoteFunction:
    """A function of another client, called like an asynchronous one of our own."""

    def __init__(
        self, calls: Calls, encoded: dict[str, Any], *, to: str, identity: Identity, parent: str | None
    ) -> None:
        self._calls = calls
        self._to = to
        self._identity = identity
        self._parent = parent
        self._method = _text(encoded, "_rmethod")
        self._awaits = bool(encoded.get("_rpromise"))
        self.encoded = {**encoded, "_rtarget": to}  # absolute: it may be handed on to another workspace
        self.timeout = INTERFACE_TIMEOUT_S if "_rintf_" in self._method else CALL_TIMEOUT_S
        self.__name__ = str(encoded.get("_rname") or self._method.rpartition("#")[2].rpartition(".")[2])
        self.__doc__ = str(encoded.get("_rdoc") or "")

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        if not self._awaits:
            self.notify(*args)
            done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        return self._calls.request(
            self._to,
            self._method,
            list(args),
            kwargs,
            identity=self._identity,
            timeout=self.timeout,
            parent=self._parent,
        )

    def notify(self, *args: Any) -> None:
        """Call without waiting for an answer."""
        self._calls.notify(self._to, self._method, list(args), identity=self._identity, parent=self._parent)

    def __repr__(self) -> str:
        return f"<RemoteFunction {self._to}:{self._method}>"


class Importer:
    """
    Makes functions and generators of what ``origin`` sent.

    From anybody but a role, only its own are accepted: this peer calls in its own name, and a map that points at a
    third client would borrow that name (``*/manager-…`` may call every protected service).

    """

    __slots__ = ("_calls", "_identity", "_origin", "_parent", "_trusted")

    def __init__(self, calls: Calls, *, origin: str, identity: Identity, parent: str | None, trusted: bool) -> None:
        self._calls = calls
        self._origin = origin
        self._identity = identity
        self._parent = parent
        self._trusted = trusted

    def method(self, encoded: dict[str, Any]) -> Callable[..., Any]:
        if absolute_target(encoded, self._origin) == self._identity.sender:
            own = self._calls.own_function(_text(encoded, "_rmethod"), self._origin)
            if own is not None:
                return own  # what we gave comes back
        to = self._target(encoded)
        return RemoteFunction(self._calls, encoded, to=to, identity=self._identity, parent=self._parent)

    def generator(self, encoded: dict[str, Any]) -> AsyncIterator[Any]:
        self._target(encoded)
        return self._calls.iterate_as(
            encoded, origin=self._origin, identity=self._identity, timeout=CALL_TIMEOUT_S, decode=True
        )

    def _target(self, encoded: dict[str, Any]) -> str:
        to = absolute_target(encoded, self._origin)
        if to != self._origin and not self._trusted:
            raise PermissionDenied(f"A function of {to} cannot be passed on by {self._origin}")
        return to


def absolute_target(encoded: Mapping[str, Any], origin: str) -> str:
    """Return the address of who owns an encoded function that ``origin`` sent. Raises BadRequest."""
    target = _text(encoded, "_rtarget")
    return target if "/" in target else f"{origin.partition('/')[0]}/{target}"


def _text(encoded: Mapping[str, Any], key: str) -> str:
    value = encoded.get(key)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"Invalid {key} of a remote function")
    return value
