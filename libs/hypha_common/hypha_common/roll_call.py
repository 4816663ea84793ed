"""
Who is there: every process of the cluster answers, so that nobody has to keep a list of them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from .errors import BadRequest, Unavailable
from .ids import new_id
from .subjects import answers as answers_to
from .subjects import broadcast
from .version import __version__
from .wire import pack, unpack

__all__ = ["Bus", "answer_roll_call", "call_roll"]

ANSWER_TIME_S = 0.5

_TOPIC = "roll-call"
_STARTED = time.time()


class Bus(Protocol):
    """What is needed of :class:`hypha_common.bus.Bus`."""

    role: str
    instance: str

    def publish(self, subject: str, payload: bytes, *, reply: str = "") -> None: ...
    async def subscribe(self, subject: str, handler: Callable[[str, str, bytes], None], *, queue: str = "") -> Any: ...
    def unsubscribe(self, subscription: Any) -> None: ...


async def answer_roll_call(bus: Bus, role: str, about: Callable[[], Mapping[str, Any]]) -> None:
    """Answer for the life of the bus: role, id, version, machine, process, start (Unix time), and ``about()``."""
    fixed = {
        "role": role,
        "id": bus.instance,
        "version": __version__,
        "machine": socket.gethostname(),
        "pid": os.getpid(),
        "started_at": _STARTED,
    }

    def answer(subject: str, reply: str, payload: bytes) -> None:
        if payload:
            with suppress(Unavailable):
                bus.publish(unpack(payload)["to"], pack({**fixed, **about()}))

    await bus.subscribe(broadcast(_TOPIC), answer)


async def call_roll(
    bus: Bus, *, expected: Iterable[tuple[str, str]] = (), timeout_s: float = ANSWER_TIME_S
) -> list[dict[str, Any]]:
    """
    Return what every process tells of itself, by role and id.

    Waits for ``timeout_s``, less where all ``expected`` (role, id) have answered. Raises Unavailable.

    """
    answers: dict[tuple[str, str], dict[str, Any]] = {}
    missing = set(expected)
    complete = asyncio.Event()
    may_end_early = bool(missing)

    def take(subject: str, reply: str, payload: bytes) -> None:
        with suppress(BadRequest, KeyError, TypeError):
            answer = unpack(payload)
            key = (str(answer["role"]), str(answer["id"]))
            answers[key] = answer
            missing.discard(key)
            if may_end_early and not missing:
                complete.set()

    inbox = answers_to(bus.role, bus.instance, f"roll-{new_id()}")
    subscription = await bus.subscribe(inbox, take)
    try:
        bus.publish(broadcast(_TOPIC), pack({"to": inbox}))
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await complete.wait()
    finally:
        bus.unsubscribe(subscription)
    return [answers[key] for key in sorted(answers)]
