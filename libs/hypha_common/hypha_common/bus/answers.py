from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from secrets import token_urlsafe
from typing import Any

import structlog

from hypha_common import trace
from hypha_common.errors import (
    BadRequest,
    DeadlineExceeded,
    HyphaError,
    InternalError,
    NobodyServes,
    Unavailable,
    error_from_wire,
)
from hypha_common.wire import pack, unpack

__all__ = ["Answers", "VerbHandler", "answer_verb", "question"]

log = structlog.get_logger(__name__)

_TOKEN_BYTES = 12

VerbHandler = Callable[[dict[str, Any]], Awaitable[Any]]


class Answers:
    """
    The requests of this process that wait for an answer, by number.

    An answer is ``[0, value]`` or ``[1, error map]``.

    """

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._asked: dict[str, str] = {}  # the subject of each, by token

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, subject: str) -> tuple[str, asyncio.Future[Any]]:
        """Return a fresh token and the future that the answer of ``subject`` completes."""
        # Not to be guessed: only who was asked knows where the answer goes.
        token = token_urlsafe(_TOKEN_BYTES)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        self._asked[token] = subject
        return token, future

    async def wait(self, token: str, future: asyncio.Future[Any], timeout: float, subject: str) -> Any:
        handle = asyncio.get_running_loop().call_later(timeout, self._expire, future, subject, timeout)
        try:
            return await future
        finally:
            handle.cancel()
            self._waiting.pop(token, None)
            self._asked.pop(token, None)

    def forget(self, token: str) -> None:
        """Stop waiting for an answer."""
        future = self._waiting.pop(token, None)
        self._asked.pop(token, None)
        if future is not None and not future.cancel():
            future.exception()  # looked at, or asyncio would complain

    def complete(self, token: str, payload: bytes) -> None:
        future = self._waiting.get(token)
        if future is None or future.done():
            return
        try:
            failed, value = unpack(payload)
        except (BadRequest, TypeError, ValueError):
            future.set_exception(InternalError("Malformed answer on the bus"))
            return
        if failed:
            future.set_exception(error_from_wire(value))
        else:
            future.set_result(value)

    def nobody(self, token: str, subject: str) -> None:
        """Fail a request that no process serves."""
        future = self._waiting.get(token)
        if future is not None and not future.done():
            future.set_exception(NobodyServes(_nobody(subject)))

    def refused(self, subject: str, error: HyphaError) -> None:
        """Fail what was asked at ``subject`` (in lower case): the bus did not take it."""
        for token, asked in self._asked.items():
            future = self._waiting[token]
            if asked.lower() == subject and not future.done():
                future.set_exception(error)

    def fail_all(self, reason: str) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable(reason))

    @staticmethod
    def _expire(future: asyncio.Future[Any], subject: str, timeout: float) -> None:
        if not future.done():
            future.set_exception(DeadlineExceeded(f"No answer from {subject} within {timeout:g} s"))


def question(message: Mapping[str, Any]) -> bytes:
    """Pack a request, with the trace it belongs to, if it belongs to any."""
    context = trace.current()
    return pack({**message, trace.KEY: context} if context else message)


def _nobody(subject: str) -> str:
    words = subject.split(".")
    if words[:2] == ["hy", "r"] and len(words) == 5:  # hy.r.<role>.<partition>.<verb>
        return f"No replica of role '{words[2]}' serves partition {words[3]}"
    return f"Nobody serves {subject}"


async def answer_verb(handler: VerbHandler, payload: bytes, subject: str) -> bytes:
    """Run a verb handler in the trace of the request and pack what it returns or raises."""
    try:
        message = unpack(payload)
        if not isinstance(message, dict):
            raise BadRequest("A request must be a map")
    except BadRequest as error:
        return pack([1, error.to_wire()])
    token = trace.enter(message.pop(trace.KEY, None))
    try:
        with trace.call(subject, trace.SERVER, trace.BUS):
            return pack([0, await handler(message)])
    except HyphaError as error:
        return pack([1, error.to_wire()])
    except Exception:  # the edge of a request: whatever went wrong, the other side gets an answer
        log.exception("verb_failed", subject=subject)
        return pack([1, InternalError("Internal error").to_wire()])
    finally:
        trace.leave(token)
