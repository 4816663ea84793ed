"""Building the frames a peer sends and reading the promise of a call (contract 01 §2.1, §2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hypha_common.errors import BadRequest
from hypha_common.ids import Address
from hypha_common.trace import KEY
from hypha_common.wire import pack

from .service import Packed

__all__ = ["Promise", "address_of", "args_extra", "call_extra", "header", "read_promise"]

MIN_INTERVAL_S = 0.1
MAX_INTERVAL_S = 3600.0

_TYPE = pack("type") + pack("method") + pack("from")
_TO, _METHOD, _WS, _USER = pack("to"), pack("method"), pack("ws"), pack("user")
_SESSION, _PARENT, _TRACE = pack("session"), pack("parent"), pack(KEY)
_ONE_ARG = b"\x81" + pack("args") + b"\x91"


def header(
    *,
    sender: str,
    to: str,
    method: str,
    workspace: str,
    user: bytes,  # packed once per peer or call, not once per frame
    session: str | None = None,
    parent: str | None = None,
    context: str = "",
) -> bytes:
    """Pack the header of a ``method`` frame; ``context`` is the trace that it belongs to."""
    count = 0x86 + (session is not None) + (parent is not None) + (context != "")
    parts = [count.to_bytes(1, "big"), _TYPE, pack(sender), _TO, pack(to), _METHOD, pack(method)]
    parts += (_WS, pack(workspace), _USER, user)
    if session is not None:
        parts += (_SESSION, pack(session))
    if parent is not None:
        parts += (_PARENT, pack(parent))
    if context:
        parts += (_TRACE, pack(context))
    return b"".join(parts)


def args_extra(value: Any) -> bytes:
    """Pack the extra map of an answer: one argument, already in wire form. Raises BadRequest for what cannot be."""
    return _ONE_ARG + (value.data if isinstance(value, Packed) else checked_pack(value))


def call_extra(args: list[Any], kwargs: dict[str, Any] | None, *, interval: float | None) -> bytes:
    """Pack the extra map of a call; ``interval`` is that of the heartbeats, None where no answer is wanted."""
    extra: dict[str, Any] = {"args": [*args, kwargs], "with_kwargs": True} if kwargs else {"args": args}
    if interval is not None:
        extra["promise"] = "*"
        extra["t"] = interval
    return checked_pack(extra)


def checked_pack(value: Any) -> bytes:
    try:
        return pack(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"Cannot be sent: {error or type(error).__name__}", rpc_type=type(error).__name__) from None


@dataclass(slots=True)
class Promise:
    """Where the caller wants the answer."""

    resolve: str
    reject: str
    heartbeat: str | None
    interval: float


def read_promise(promise: Any, interval: Any, *, session: str | None, sender: str) -> Promise | None:
    """
    Return the promise of a call, None where no answer is wanted. Raises BadRequest.

    An answer only ever goes to a session of the caller: a promise that named anything else would make this peer call
    in its own name whatever the caller may not.

    """
    if promise is None or promise is False:
        return None
    if promise == "*":
        if session is None:
            raise BadRequest("A promise needs a session")
        return Promise(f"{session}.resolve", f"{session}.reject", f"{session}.heartbeat", _interval(interval))
    if not isinstance(promise, dict):
        raise BadRequest("Invalid promise")
    resolve, reject = (_callback(promise.get(name), sender) for name in ("resolve", "reject"))
    if resolve is None or reject is None:
        raise BadRequest("Invalid promise")
    return Promise(resolve, reject, _callback(promise.get("heartbeat"), sender), _interval(promise.get("interval")))


def _callback(encoded: Any, sender: str) -> str | None:
    if encoded is None:
        return None
    method = encoded.get("_rmethod") if isinstance(encoded, dict) else None
    target = encoded.get("_rtarget") if isinstance(encoded, dict) else None
    if not isinstance(method, str) or not isinstance(target, str) or method.startswith("services."):
        raise BadRequest("Invalid promise")
    if "/" not in target:
        target = f"{sender.partition('/')[0]}/{target}"
    if target != sender:
        raise BadRequest("A promise must belong to the caller")
    return method


def _interval(value: Any) -> float:
    if not isinstance(value, (int, float)) or not value > 0:
        return 15.0
    return min(max(float(value), MIN_INTERVAL_S), MAX_INTERVAL_S)


@lru_cache(maxsize=4096)
def address_of(text: str) -> Address:
    """Parse an absolute address. Raises BadRequest."""
    return Address.parse(text)
