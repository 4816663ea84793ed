from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import structlog

from hypha_common import envelope
from hypha_common.bus import Bus
from hypha_common.errors import DeadlineExceeded, HyphaError, Unavailable
from hypha_common.rpc.router import instance_of
from hypha_common.subjects import (
    decode_token,
    no_responders_prefix,
    pinned,
    role_verb,
    session_token,
)
from hypha_common.trace import Span

from . import metrics
from .gate import Gate
from .owed import OwedCall, OwedCalls, RoleCaller

__all__ = ["RoleCalls"]

log = structlog.get_logger(__name__)

_KEPT_BYTES = 64 * 1024  # frames up to this size are kept until answered, so that they can go to another replica
_WATCH_INTERVAL_S = 0.4
_PING_TIMEOUT_S = 0.8
_STRIKES = 2
_PIN_TIMEOUT_S = 0.5
_PIN_ATTEMPTS = 4


class RoleCalls:
    """
    Calls from this gateway to roles.

    A caller keeps talking to the replica that it was given first, so that chunked calls stay together. While a replica
    owes answers it is pinged; when it is gone each outstanding call fails at once, and what it never received goes to
    another replica.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._calls = OwedCalls()
        self._strikes: dict[tuple[str, str], int] = {}
        self._pinning: dict[tuple[RoleCaller, str], Gate] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def owed(self) -> dict[str, int]:
        """Return how many answers each role owes."""
        return self._calls.by_role()

    def gate(self, caller: RoleCaller, role: str) -> Gate | None:
        """Return None where ``caller`` has a replica of ``role``, else a gate that opens once it has (or cannot)."""
        if role in caller.pins:
            return None
        key = (caller, role)
        gate = self._pinning.get(key)
        if gate is None:
            gate = self._pinning[key] = Gate()
            self._spawn(self._pin_then_open(caller, role, gate))
        return gate

    def send(
        self,
        caller: RoleCaller,
        role: str,
        *,
        to: str,
        method: object,
        session: str | None,
        frame: bytes,
        context: str = "",
        span: Span | None = None,
    ) -> None:
        """
        Send one frame; ``context`` is its trace, where that is not the caller's own affair.

        A call that is recorded as ``span`` ends it. Raises HyphaError where no replica can take it.

        """
        payload = envelope.call(self._bus.instance_bytes, caller.generation, frame)
        # A session that a replica made: its answers and callbacks belong to exactly that replica.
        owner = instance_of(method) if isinstance(method, str) else None
        instance = owner or caller.pins.get(role)
        if not instance:
            caller.pins.pop(role, None)
            raise Unavailable(f"No replica of role '{role}' serves partition {caller.partition}")
        if session is None or not session_token(session):
            self._bus.publish(pinned(role, instance), payload)
            if span is not None:
                span.end()
            return
        kept = payload if owner is None and len(payload) <= _KEPT_BYTES else None
        call = OwedCall(caller, role, to, session, instance, kept, context, span)
        self._calls.add(call)
        self._publish(call, payload)

    def answered(self, number: int, session: str) -> None:
        """A role has ended the call."""
        call = self._calls.pop(number, session)
        if call is not None:
            metrics.ROLE_CALLS.labels(call.role, "answered").inc()
            metrics.ROLE_SECONDS.labels(call.role).observe(time.perf_counter() - call.since)

    def owed_to(self, caller: RoleCaller) -> list[list[str]]:
        """Return what replicas owe to a caller, as :meth:`adopt` takes it elsewhere."""
        return [[call.role, call.to, call.session, call.instance] for call in self._calls.of_caller(caller.number)]

    def adopt(self, caller: RoleCaller, owed: list[list[str]]) -> None:
        """Look after the calls that a caller made at another gateway."""
        for role, to, session, instance in owed:
            self._calls.add(OwedCall(caller, role, to, session, instance, None))

    def released(self, caller: RoleCaller) -> None:
        """Forget the calls of a caller that is gone."""
        self._calls.forget(caller.number)

    def undeliverable(self, tail: str, *, instance: str = "") -> None:
        """
        The replica that a call went to does not listen any more, or has returned it: give it to another one.

        A call that ``instance`` returns is forgotten if it has failed since.

        """
        number, _, token = tail.partition(".")
        call = self._calls.get(int(number), decode_token(token))
        if call is None or (instance and call.instance != instance):
            return
        if call.caller.pins.get(call.role) == call.instance:
            del call.caller.pins[call.role]
        if call.payload is None:
            self._fail(call)
        else:
            self._spawn(self._resend(call))

    def bus_lost(self) -> None:
        """Answers may have been lost with the connection: whoever waits for one is told."""
        for replica in self._calls.replicas():
            for call in self._calls.of(*replica):
                self._fail(call)

    async def watch(self) -> None:
        """Ping each replica that owes an answer; runs for the life of the gateway."""
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            replicas = self._calls.replicas()
            if replicas and self._bus.is_connected:
                await asyncio.gather(*(self._check(role, instance) for role, instance in replicas))

    async def _check(self, role: str, instance: str) -> None:
        key = (role, instance)
        owed = self._calls.of(role, instance)  # what is sent from now on is judged next time
        try:
            await self._bus.request(f"{pinned(role, instance)}.ping", {}, timeout=_PING_TIMEOUT_S)
            self._strikes.pop(key, None)
            return
        except DeadlineExceeded:
            # They stay until it answers: whoever is still pinned to it learns at the next ping.
            self._strikes[key] = strikes = min(self._strikes.get(key, 0) + 1, _STRIKES)
            if strikes < _STRIKES:
                return
        except HyphaError:
            if not self._bus.is_connected:
                return
            self._strikes.pop(key, None)
        log.warning("replica_gone", role=role, instance=instance, calls=len(owed))
        for call in owed:
            if call in self._calls and call.instance == instance:
                if call.caller.pins.get(role) == instance:
                    del call.caller.pins[role]
                self._fail(call)

    def _publish(self, call: OwedCall, payload: bytes) -> None:
        tail = f"r.{call.caller.number}.{session_token(call.session)}"
        try:
            self._bus.publish(
                pinned(call.role, call.instance), payload, reply=f"{no_responders_prefix(self._bus.instance)}.{tail}"
            )
        except HyphaError:
            self._calls.pop(call.caller.number, call.session)
            raise

    async def _pin_then_open(self, caller: RoleCaller, role: str, gate: Gate) -> None:
        try:
            caller.pins[role] = await self._pin(caller, role)
        except HyphaError:
            caller.pins[role] = ""  # send() tells the caller, the frame after that tries again
        finally:
            del self._pinning[caller, role]
            gate.open()

    async def _pin(self, caller: RoleCaller, role: str) -> str:
        subject = role_verb(role, caller.partition, "pin")
        # One that stands still is in the queue group as well, and does not answer.
        answer = await self._bus.request(subject, {}, timeout=_PIN_TIMEOUT_S, attempts=_PIN_ATTEMPTS)
        return str(answer["instance"])

    async def _resend(self, call: OwedCall) -> None:
        payload = call.payload
        try:
            instance = call.caller.pins.get(call.role) or await self._pin(call.caller, call.role)
        except HyphaError:
            self._fail(call)
            return
        if payload is None or call not in self._calls:
            return
        if call.caller.pins.get(call.role) in (None, call.instance):
            call.caller.pins[call.role] = instance
        self._calls.move(call, instance)
        try:
            self._publish(call, payload)
        except HyphaError:
            self._fail(call)

    def _fail(self, call: OwedCall) -> None:
        self._calls.pop(call.caller.number, call.session)
        metrics.ROLE_CALLS.labels(call.role, "failed").inc()
        if not call.caller.closed:
            text = f"ConnectionError: The {call.role} replica that was executing the call is gone"
            call.caller.reject(call.session, call.to, text, context=call.context)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
