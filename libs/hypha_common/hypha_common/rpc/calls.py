from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from hypha_common.errors import DeadlineExceeded, HyphaError, PeerNotFound

from .remote import RemoteError, error_of, is_peer_gone
from .sessions import new_session_id

__all__ = ["OutgoingCall", "OutgoingCalls"]


class OutgoingCall:
    """A call of ours that awaits its answer. Its session is in the table exactly as long."""

    __slots__ = ("_deadline", "_loop", "_timer", "answer", "method", "on_long", "sent", "session", "timeout", "to")

    def __init__(self, session: str, to: str, method: str, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self.answer: asyncio.Future[Any] = self._loop.create_future()
        self.session = session
        self.sent = time.monotonic()
        self.to = to
        self.method = method
        self.timeout = timeout
        self.on_long: Callable[[OutgoingCall], None] | None = None  # told once, of a call that takes a while

    def arm(self) -> None:
        """Start the timer; called when the frame is out."""
        self._deadline = self._loop.time() + self.timeout
        self._timer = self._loop.call_at(self._deadline, self._check)

    def heartbeat(self) -> None:
        """The callee is still at work. Only the deadline moves; the timer finds out when it fires."""
        self._deadline = self._loop.time() + self.timeout
        if self.on_long is not None:
            told, self.on_long = self.on_long, None
            told(self)

    def resolve(self, value: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(value)

    def reject(self, error: HyphaError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.answer.done():
            self.answer.cancel()

    def _check(self) -> None:
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
        else:
            self.reject(DeadlineExceeded(f"Method call timed out: {self.to}:{self.method}"))


class OutgoingCalls:
    """The calls of this peer that await an answer, by session."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._by_session: dict[str, OutgoingCall] = {}

    def __len__(self) -> int:
        return len(self._by_session)

    def __iter__(self) -> Iterator[OutgoingCall]:
        return iter(list(self._by_session.values()))

    def get(self, session: str) -> OutgoingCall | None:
        return self._by_session.get(session)

    def open(self, to: str, method: str, timeout: float) -> OutgoingCall:
        call = OutgoingCall(new_session_id(self._prefix), to, method, timeout)
        self._by_session[call.session] = call
        return call

    def close(self, call: OutgoingCall) -> None:
        self._by_session.pop(call.session, None)
        call.end()

    def settle(self, call: OutgoingCall, name: str, args: list[Any]) -> None:
        """Apply ``resolve``, ``reject`` or ``heartbeat`` from the callee."""
        value = args[0] if args else None
        if name == "heartbeat":
            call.heartbeat()
        elif name == "resolve":
            call.resolve(value)
        else:
            text = error_of(value)
            gone = is_peer_gone(text)
            call.reject(PeerNotFound(text.removeprefix("ConnectionError: ")) if gone else RemoteError(text))
