from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from typing import Any, Protocol

import structlog

from hypha_common.errors import HyphaError, InternalError, QuotaExceeded, Unavailable
from hypha_common.faults import note_fault

from .remote import error_text

__all__ = ["Answers", "RunningCalls", "rejection_of"]

log = structlog.get_logger()

HEARTBEAT_PREFIX = "hb-"
FIRST_HEARTBEAT_S = 0.25


class Answers(Protocol):
    """Where the outcome of a call goes; see :class:`hypha_common.rpc.reply.Reply`."""

    sender: str
    method: str
    interval: float | None  # seconds between heartbeats, None where nobody waits

    def resolve(self, value: Any) -> None: ...
    def reject(self, text: str) -> None: ...
    def heartbeat(self, label: str) -> None: ...


class _Call:
    __slots__ = ("answers", "beats", "label", "last_miss", "task", "timer")

    def __init__(self, label: str, answers: Answers) -> None:
        self.label = label
        self.answers = answers
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.beats = 0
        self.last_miss = -1


class RunningCalls:
    """The calls this peer executes for others: their tasks, heartbeats and limits."""

    def __init__(self, *, per_sender: int = 256, total: int = 20_000) -> None:
        self._per_sender = per_sender
        self._total = total
        self._numbers = itertools.count(1)
        self._calls: dict[str, _Call] = {}
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def admit(self, sender: str) -> None:
        """Raise QuotaExceeded where ``sender``, or everybody together, has too many calls running."""
        if self._counts.get(sender, 0) >= self._per_sender:
            raise QuotaExceeded(f"Too many calls of {sender} are running")
        if len(self._calls) >= self._total:
            raise QuotaExceeded("Too many calls are running")

    def start(self, work: Awaitable[Any], answers: Answers) -> None:
        """Run ``work`` to its end, with heartbeats while it lasts, and give its outcome to ``answers``."""
        loop = asyncio.get_running_loop()
        call = _Call(f"{HEARTBEAT_PREFIX}{next(self._numbers)}", answers)
        self._calls[call.label] = call
        self._counts[answers.sender] = self._counts.get(answers.sender, 0) + 1
        call.task = loop.create_task(self._run(work, call))
        if answers.interval is not None:
            # Most calls end sooner than their first heartbeat would arrive; callers wait 30 s for one.
            first_s = min(FIRST_HEARTBEAT_S, answers.interval)
            call.timer = loop.call_later(first_s, self._beat, call, loop, answers.interval)

    def undeliverable(self, label: str) -> None:
        """A heartbeat found nobody. Twice in a row means that the caller is gone, not just reconnecting."""
        call = self._calls.get(label)
        if call is None or call.task is None:
            return
        if call.last_miss == call.beats - 1:
            log.info("rpc_caller_gone", caller=call.answers.sender, method=call.answers.method)
            call.task.cancel()
        call.last_miss = call.beats

    async def drain(self, timeout_s: float) -> None:
        """Wait until nothing runs, at most ``timeout_s``."""
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def close(self) -> None:
        """Cancel what still runs; its callers are told."""
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _beat(self, call: _Call, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        call.beats += 1
        call.answers.heartbeat(call.label)
        call.timer = loop.call_later(interval, self._beat, call, loop, interval)

    async def _run(self, work: Awaitable[Any], call: _Call) -> None:
        try:
            value = await work
        except asyncio.CancelledError:
            self._end(call)
            stopping = Unavailable("The call was cancelled: the server is stopping")
            call.answers.reject(rejection_of(stopping, call.answers))
            raise
        except Exception as error:  # noqa: BLE001  # the outer edge of a call: whatever the method raises is answered
            self._end(call)
            call.answers.reject(rejection_of(error, call.answers))
        else:
            self._end(call)
            call.answers.resolve(value)

    def _end(self, call: _Call) -> None:
        if call.timer is not None:
            call.timer.cancel()
        del self._calls[call.label]
        sender = call.answers.sender
        left = self._counts[sender] - 1
        if left:
            self._counts[sender] = left
        else:
            del self._counts[sender]


def rejection_of(error: Exception, answers: Answers) -> str:
    """Return the text that answers ``error``, and write down under which id it was told."""
    method = answers.method
    if not isinstance(error, HyphaError):
        log.error("rpc_method_failed", method=method, exc_info=error)
    elif isinstance(error, InternalError):
        log.warning("rpc_method_error", method=method, error=str(error))
    else:
        note_fault("rpc_call_refused", caller=answers.sender, method=method, error=error.rpc_text())
    return error_text(error)
