from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from nats.aio.client import Server
from nats.errors import Error as NatsError
from nats.errors import FlushTimeoutError

from hypha_common import envelope, trace
from hypha_common.errors import DeadlineExceeded, HyphaError, NotBegun, NotPermitted, PayloadTooLarge, Unavailable
from hypha_common.health import BUS_AWAY
from hypha_common.ids import new_id
from hypha_common.settings import Settings
from hypha_common.subjects import PARTITIONS, answers, no_responders_prefix, role_verb
from hypha_common.wire import pack

from . import metrics
from .answers import Answers, VerbHandler, answer_verb, question
from .client import DirectClient, Handler, Subscription
from .reassembly import Reassembly
from .standstill import Standstill

__all__ = ["Bus"]

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 64 * 2**20
_MAX_SUBJECTS = 3500  # characters of subject and reply: NATS hangs up on a command line of more than 4 KiB
_HEADROOM_BYTES = 4096  # nats-py counts only the payload, the server also subject and headers
_HIGH_WATER_BYTES = 8 * 2**20
_MAX_RUNNING_VERBS = 2000
_PREPOSITIONS = {"publish": "publish on", "subscribe": "subscribe to"}
_MAX_VIOLATIONS = 100  # subjects that are told of, each once a connection
_CONNECT_DEADLINE_S = 8.0
_WATCHDOG_INTERVAL_S = 5.0
_NOT_BEGUN_ATTEMPTS = 10
_NOT_BEGUN_PAUSE_S = 0.05
_WATCHDOG_STRIKES = 3
_RANGED = frozenset({"apps", "artifacts", "workspace"})  # roles whose replicas may serve some partitions only


class Bus:
    """
    Frames and requests between the processes of a cluster; the only importer of nats.

    Delivery is at most once and in order per (sender, subject). ``on_fatal(reason)`` is called when the connection
    cannot be trusted any more; the process should then exit and be started again.

    """

    def __init__(
        self,
        *,
        urls: Sequence[str],
        role: str,
        instance: str,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        on_fatal: Callable[[str], None],
    ) -> None:
        self.role = role
        self.instance = instance
        self.instance_bytes = instance.encode("ascii")
        self.partitions: tuple[int, ...] | None = None  # that this process serves; None: all
        self.on_disconnected: list[Callable[[], None]] = []
        self.on_reconnected: list[Callable[[], None]] = []
        self._urls = list(urls)
        self._user = user
        self._password = password
        self._token = token
        self._on_fatal = on_fatal
        self._client = DirectClient(self._violated)
        self._violations: set[tuple[str, str]] = set()  # (publish or subscribe, subject), of this connection
        self._opening = False
        self._answers = Answers()
        self._reassembly = Reassembly(max_bytes=2 * MAX_MESSAGE_BYTES)
        self._verbs: set[asyncio.Task[None]] = set()
        self._served: list[Subscription] = []
        self._watchdog: asyncio.Task[None] | None = None
        self._standstill = Standstill(self._caught_up)
        self._ticking: asyncio.Task[None] | None = None
        self._on_undeliverable: Callable[[str, str], None] | None = None
        self._closing = False
        self._messages = 0
        self._connected = False

    @classmethod
    def from_settings(cls, settings: Settings, role: str, *, on_fatal: Callable[[str], None]) -> Bus:
        """Return the bus of a new process of ``role``, under an instance id of its own."""
        bus = cls(
            urls=settings.nats_urls,
            role=role,
            instance=new_id(8),
            user=settings.nats_user or None,
            password=settings.nats_password or None,
            token=settings.nats_token or None,
            on_fatal=on_fatal,
        )
        if role in _RANGED and len(settings.served_partitions) < PARTITIONS:
            bus.partitions = tuple(sorted(settings.served_partitions))
        return bus

    @property
    def is_connected(self) -> bool:
        return self._connected and bool(self._client.is_connected)

    @property
    def refused(self) -> list[str]:
        """What the server did not let this process do on this connection, in words."""
        return [
            f"the bus does not let {self._whom} {_PREPOSITIONS[kind]} {subject}"
            for kind, subject in sorted(self._violations)
        ]

    @property
    def missing(self) -> list[str]:
        """What is missing for this process to be heard and to hear, in words; nothing: it is connected."""
        if not self.is_connected:
            return [BUS_AWAY]
        # What it must not publish fails where it is tried; what it does not hear would be missed by nobody.
        return [words for words in self.refused if f"{self._whom} subscribe" in words]

    @property
    def _whom(self) -> str:
        return f"user '{self._user}'" if self._user else "this process"

    @property
    def is_congested(self) -> bool:
        """True while more is queued than the connection takes; wait for :meth:`written` before sending more."""
        return self._client.backlog_bytes > _HIGH_WATER_BYTES

    def load(self) -> dict[str, int]:
        """Return what passes and what waits, for metrics."""
        return {
            **{name: int(count) for name, count in self._client.stats.items()},
            "subscriptions": self._client.subscriptions,
            "backlog": self._client.backlog_bytes,
            "waiting": len(self._answers),
            "verbs": len(self._verbs),
        }

    async def connect(self, timeout: float = _CONNECT_DEADLINE_S) -> None:
        """
        Connect; may be tried again.

        Raises Unavailable or DeadlineExceeded where no server answers soon, NotPermitted where none lets us in.

        """
        try:
            await self._open(timeout)
            self._connected = True
            self._listen()
            await self.flush()
            if self.missing:
                raise NotPermitted(f"{'; '.join(self.missing)}: is it another role's user?")
        except BaseException:
            # What is left of a failed attempt must not be in the way of the next.
            self._connected = False
            failed, self._client = self._client, DirectClient(self._violated)
            self._closing = True
            with suppress(Exception):
                await failed.close()
            self._closing = False
            raise
        metrics.CONNECTED.set(1)
        metrics.BUSES.add(self)
        self._watchdog = asyncio.create_task(self._watch())
        self._ticking = asyncio.create_task(self._standstill.watch())

    async def _open(self, timeout: float) -> None:
        self._opening = True
        self._violations.clear()
        try:
            async with asyncio.timeout(timeout):  # nats-py itself would try for ever
                await self._client.connect(
                    self._urls,
                    name=f"{self.role}-{self.instance}",
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    reconnect_to_server_handler=_jittered,
                    ping_interval=10,
                    max_outstanding_pings=2,
                    connect_timeout=3,
                    flush_timeout=2,
                    drain_timeout=15,
                    error_cb=self._count_error,
                    closed_cb=self._closed,
                    disconnected_cb=self._disconnected,
                    reconnected_cb=self._reconnected,
                    user=self._user,
                    password=self._password,
                    token=self._token,
                )
        except (OSError, TimeoutError, NatsError) as error:
            servers = ", ".join(url.rpartition("@")[2] for url in self._urls)  # an address may hold a password
            raise Unavailable(f"Cannot reach the bus at {servers}: {str(error) or 'no answer'}") from None
        finally:
            self._opening = False

    def _listen(self) -> None:
        """Take answers to our requests, and the bus's word that nobody listens."""
        prefix = no_responders_prefix(self.instance)
        start = len(prefix) + 1
        self._client.subscribe_direct(
            answers(self.role, self.instance, "*"),
            "",
            lambda subject, reply, payload: self._answers.complete(subject.rpartition(".")[2], payload),
            lambda subject, target, payload: self._answers.nobody(subject.rpartition(".")[2], target),
        )
        self._client.subscribe_direct(
            f"{prefix}.>", "", _ignore, lambda subject, target, payload: self._undeliverable(subject[start:], target)
        )

    @property
    def is_late(self) -> bool:
        """True while what is read may have been sent before or while this process stood still."""
        return not self._standstill.over()

    async def close(self) -> None:
        """Stop serving, let running requests finish, send what is queued, disconnect."""
        self._closing = True
        metrics.BUSES.discard(self)
        await self.stop_serving()
        for task in (self._watchdog, self._ticking):
            if task is not None:
                task.cancel()
        if self._verbs:
            await asyncio.wait(list(self._verbs), timeout=5)
        for task in list(self._verbs):
            task.cancel()
        if self.is_connected:
            with suppress(Exception):  # closing: the server may be gone already
                await self.flush(timeout=2)
        opened, self._connected = self._connected, False
        if opened:
            await self._client.close()

    async def stop_serving(self) -> None:
        """Withdraw from every queue group; requests that already arrived are still answered."""
        served, self._served = self._served, []
        await self.withdraw(served)

    async def withdraw(self, subscriptions: Iterable[Subscription]) -> None:
        """End subscriptions without losing a message: the server has sent its last one when this returns."""
        leaving = list(subscriptions)
        for subscription in leaving:
            self._client.withdraw_direct(subscription)
        if self.is_connected:
            with suppress(Unavailable, DeadlineExceeded):
                await self.flush()
        for subscription in leaving:
            self._client.unsubscribe_direct(subscription)

    def publish(self, subject: str, *payload: bytes | memoryview, reply: str = "") -> None:
        """
        Send in order, without waiting. ``reply`` is where the bus reports that nobody listens.

        The payload may come in parts, so that a large frame needs no joining.

        Raises Unavailable while disconnected (nothing is kept for later) and PayloadTooLarge beyond 64 MiB, or where
        ids make the subject too long.

        """
        if not self.is_connected:
            metrics.REFUSED.inc()
            raise Unavailable("The bus is not connected")
        if len(subject) + len(reply) > _MAX_SUBJECTS:
            raise PayloadTooLarge("An id is too long")
        limit = self._client.max_payload - _HEADROOM_BYTES
        size = sum(map(len, payload))
        if size <= limit:
            self._client.publish_direct(subject, reply, *payload)
            return
        if size > MAX_MESSAGE_BYTES:
            raise PayloadTooLarge(f"A message of {size} bytes is too large for the bus")
        self._messages = (self._messages + 1) % 2**32
        for piece in envelope.fragments(self.instance_bytes, self._messages, b"".join(payload), limit - 32):
            self._client.publish_direct(subject, reply, piece)
            reply = ""  # one report is enough

    async def written(self) -> None:
        """Wait until what was published so far has left this process."""
        await self._client.written()

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has seen everything sent so far. Raises Unavailable or DeadlineExceeded."""
        if not self._client.is_connected:
            raise Unavailable("The bus is not connected")
        try:
            with metrics.ROUND_TRIP.time():
                await self._client.flush(timeout=timeout)  # type: ignore[arg-type]  # seconds, fractions included
        except FlushTimeoutError:
            raise DeadlineExceeded("The bus did not answer") from None
        except NatsError as error:
            raise Unavailable(f"The bus is not connected: {error}") from None

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> Subscription:
        """Call ``handler(subject, reply, payload)`` for each message, whole. It must neither block nor raise."""
        return self._client.subscribe_direct(subject, queue, partial(self._deliver, handler), None)

    def unsubscribe(self, subscription: Subscription) -> None:
        self._client.unsubscribe_direct(subscription)

    async def request(
        self, subject: str, message: Mapping[str, Any], *, timeout: float = 5.0, attempts: int = 1
    ) -> Any:
        """
        Ask one server of ``subject`` and return its answer.

        ``attempts`` above one is for questions that may be asked twice: when one goes unanswered for ``timeout`` s,
        perhaps because the replica that had it died, the next goes to another replica.

        Raises what the other side raised, Unavailable where nobody serves it, DeadlineExceeded after the last attempt.

        """
        with trace.call(subject, trace.CLIENT, trace.BUS):
            for _ in range(attempts - 1):
                with suppress(DeadlineExceeded):
                    return await self._ask_until_begun(subject, message, timeout)
            return await self._ask_until_begun(subject, message, timeout)

    async def _ask_until_begun(self, subject: str, message: Mapping[str, Any], timeout: float) -> Any:
        for _ in range(_NOT_BEGUN_ATTEMPTS - 1):
            try:
                return await self.ask(subject, question(message), timeout=timeout)
            except NotBegun:
                await asyncio.sleep(_NOT_BEGUN_PAUSE_S)
        return await self.ask(subject, question(message), timeout=timeout)

    async def ask(self, subject: str, *payload: bytes | memoryview, timeout: float) -> Any:
        """
        Send a payload as it is to whoever subscribes to ``subject`` and return what that process answers.

        Raises as :meth:`request` does; NobodyServes where nobody listens there.

        """
        token, future = self._answers.expect(subject)
        try:
            self.publish(subject, *payload, reply=answers(self.role, self.instance, token))
        except BaseException:
            self._answers.forget(token)
            raise
        with metrics.asking(subject):
            return await self._answers.wait(token, future, timeout, subject)

    async def listens(self, subject: str) -> bool:
        """
        Tell whether somebody subscribes to ``subject``, where an empty message must mean nothing.

        The bus says on one connection, in order, that nobody does and that it has seen all we sent. Raises Unavailable
        or DeadlineExceeded.

        """
        token, future = self._answers.expect(subject)
        try:
            self.publish(subject, b"", reply=answers(self.role, self.instance, token))
            await self.flush()
            if future.done() and isinstance(error := future.exception(), NotPermitted):
                raise error
            return not future.done()
        finally:
            self._answers.forget(token)

    def answer(self, reply: str, value: Any = None, *, error: HyphaError | None = None) -> None:
        """Answer what somebody asked by :meth:`ask`."""
        if reply:
            self._reply(reply, pack([0, value] if error is None else [1, error.to_wire()]))

    async def serve(
        self, role: str, verb: str, handler: VerbHandler, *, partitions: Iterable[int] | None = None
    ) -> None:
        """Answer a verb of a role in its queue group, for all partitions of this process or only some."""
        wanted = self.partitions if partitions is None else sorted(partitions)
        if wanted is None or list(wanted) == list(range(PARTITIONS)):
            subjects = [role_verb(role, "*", verb)]
        else:
            subjects = [role_verb(role, p, verb) for p in wanted]
        for subject in subjects:
            await self._serve(subject, handler, queue=role)

    async def serve_subject(self, subject: str, handler: VerbHandler) -> None:
        """Answer requests on one subject of this process alone."""
        await self._serve(subject, handler, queue="")

    async def undeliverable(self, handler: Callable[[str, str], None]) -> None:
        """Call ``handler(tail, subject)`` when nobody listens where a frame with reply ``hy.n.<us>.<tail>`` went."""
        self._on_undeliverable = handler

    async def _serve(self, subject: str, handler: VerbHandler, *, queue: str) -> None:
        def on_request(subject: str, reply: str, payload: bytes) -> None:
            if len(self._verbs) >= _MAX_RUNNING_VERBS:
                self._reply(reply, pack([1, Unavailable("Overloaded, please retry").to_wire()]))
                return
            if queue and self.is_late:
                self._reply(reply, pack([1, NotBegun("The replica stood still, please retry").to_wire()]))
                return
            task = asyncio.create_task(self._run_verb(handler, subject, reply, payload))
            self._verbs.add(task)
            task.add_done_callback(self._verbs.discard)

        subscription = await self.subscribe(subject, on_request, queue=queue)
        if queue:  # what only this process can answer (is it alive?) is answered to the end
            self._served.append(subscription)

    async def _run_verb(self, handler: VerbHandler, subject: str, reply: str, payload: bytes) -> None:
        with metrics.answering(subject):
            answer = await answer_verb(handler, payload, subject)
        if reply:
            self._reply(reply, answer)

    def _reply(self, reply: str, answer: bytes) -> None:
        try:
            self.publish(reply, answer)
        except Unavailable:
            log.warning("answer_lost", reason="bus disconnected")

    def _deliver(self, handler: Handler, subject: str, reply: str, payload: bytes) -> None:
        if payload and payload[0] == envelope.Kind.FRAGMENT:
            whole = self._reassembly.add(subject, envelope.open_envelope(payload), reply)
            metrics.FRAGMENTS_DROPPED.set(self._reassembly.dropped)
            if whole is None:
                return
            payload, reply = whole
        try:
            handler(subject, reply, payload)
        except Exception:  # an error here would end nats-py's read loop and leave a deaf process
            log.exception("bus_handler_failed", subject=subject)

    def _undeliverable(self, tail: str, subject: str) -> None:
        if self._on_undeliverable is not None:
            self._on_undeliverable(tail, subject)

    def _violated(self, kind: str, subject: str) -> None:
        """The server refused something: this user lacks what the code does, or is another role's."""
        metrics.VIOLATIONS.labels(kind).inc()
        if kind == "publish":
            error = NotPermitted(f"The bus does not let {self._whom} publish on {subject}")
            self._answers.refused(subject, error)
        known = (kind, subject) in self._violations
        if not known and len(self._violations) < _MAX_VIOLATIONS:
            self._violations.add((kind, subject))
            log.error("bus_not_permitted", user=self._user, kind=kind, subject=subject)

    async def _count_error(self, error: Exception) -> None:
        if self._opening and "authorization violation" in str(error).lower():
            # Out of nats-py's connect(), which would try the same for ever.
            raise NotPermitted(f"The bus does not let {self._whom} in: wrong user, password or token")
        metrics.note_error(error)
        log.warning("bus_error", error=repr(error))

    async def _disconnected(self) -> None:
        metrics.CONNECTED.set(0)
        self._violations.clear()  # subscriptions are made anew, perhaps at a server that allows them
        self._answers.fail_all("The bus connection was lost")
        if not self._closing:
            log.warning("bus_disconnected")
        for callback in self.on_disconnected:
            callback()

    async def _reconnected(self) -> None:
        metrics.CONNECTED.set(1)
        metrics.RECONNECTS.inc()
        log.warning("bus_reconnected")
        for callback in self.on_reconnected:
            callback()

    async def _closed(self) -> None:
        self._connected = False
        if not self._closing:
            self._on_fatal("the bus connection closed for good")

    async def _caught_up(self) -> None:
        """Return when everything has been read that the server had for us when this was called."""
        with suppress(Unavailable, DeadlineExceeded):  # then nothing of it comes any more, or slowly
            await self.flush()

    async def _watch(self) -> None:
        """Notice a connection that looks alive but no longer reads; make a new one, or give up if that is no better."""
        strikes = 0
        while strikes < 2 * _WATCHDOG_STRIKES:
            await asyncio.sleep(_WATCHDOG_INTERVAL_S)
            try:
                await self.flush(timeout=_WATCHDOG_INTERVAL_S)
                strikes = 0
            except DeadlineExceeded:
                strikes += 1
                if strikes == _WATCHDOG_STRIKES:
                    log.warning("bus_unresponsive")
                    await self._client.force_reconnect()
            except Unavailable:
                pass  # not connected: that is seen to
        self._on_fatal("the bus connection stopped answering")


def _ignore(subject: str, reply: str, payload: bytes) -> None:
    return


def _jittered(servers: list[Server], info: Any) -> tuple[Server, float]:
    """Choose a server and a delay in seconds, so that a fleet does not come back in one instant."""
    return random.choice(servers), random.uniform(0.05, 0.8)
