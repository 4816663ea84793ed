from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from nats.aio.client import PING_PROTO
from nats.aio.client import Client as NatsClient
from nats.aio.subscription import Subscription as NatsSubscription

from .parser import FrameParser
from .transport import WideTransport

__all__ = ["DirectClient", "Subscription"]

Handler = Callable[[str, str, bytes], None]

# nats-py's parser makes errors lower case; the subject of a queue subscription is followed by its queue.
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')
_NO_RESPONDERS = b"NATS/1.0 503"


class Subscription:
    """Interest in one subject. ``handler(subject, reply, payload)`` runs in the read loop and must not block."""

    __slots__ = ("handler", "native", "on_no_responders", "subject")

    def __init__(self, native: NatsSubscription, handler: Handler, on_no_responders: Handler | None) -> None:
        self.native = native
        self.subject = native.subject
        self.handler = handler
        self.on_no_responders = on_no_responders


class DirectClient(NatsClient):
    """
    nats-py's client with two short cuts for frames; :class:`~hypha_common.bus.Bus` is what the rest of Hypha uses.

    nats-py gives each subscription a queue and a task, 4 KiB and two loop turns a message. A gateway holds a
    subscription for every socket, so here a message goes from the parser straight to its handler, and a publish goes
    to the socket without a coroutine. Connecting, reconnecting and resubscribing stay nats-py's.

    """

    def __init__(self, on_violation: Callable[[str, str], None]) -> None:
        """``on_violation(kind, subject)`` hears of each publish or subscription refused; the subject in lower case."""
        super().__init__()
        self._on_violation = on_violation
        # nats-py keeps both over reconnects.
        self._transport = self._wide = WideTransport()
        self._ps = FrameParser(self)
        self._direct: dict[int, Subscription] = {}

    def subscribe_direct(
        self, subject: str, queue: str, handler: Handler, on_no_responders: Handler | None
    ) -> Subscription:
        """Register interest at once: the SUB leaves before any later publish."""
        self._sid += 1
        # A native subscription without its task: nats-py replays it after a reconnect.
        native = NatsSubscription(self, self._sid, subject, queue=queue)
        self._subs[self._sid] = native
        subscription = self._direct[self._sid] = Subscription(native, handler, on_no_responders)
        if self.is_connected:  # else nats-py announces it when it is
            self._write(f"SUB {subject} {queue} {self._sid}\r\n".encode())
        return subscription

    def unsubscribe_direct(self, subscription: Subscription) -> None:
        self.withdraw_direct(subscription)
        self._direct.pop(subscription.native._id, None)

    def withdraw_direct(self, subscription: Subscription) -> None:
        """Tell the server to send no more; what is on its way still reaches the handler."""
        sid = subscription.native._id
        if self._subs.pop(sid, None) is not None and self.is_connected:
            self._write(f"UNSUB {sid}\r\n".encode())

    def publish_direct(self, subject: str, reply: str, *payload: bytes | memoryview) -> None:
        """Queue a message, in one or more parts. The caller has checked size and connection."""
        size = sum(map(len, payload))
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += size
        head = f"PUB {subject} {reply} {size}\r\n" if reply else f"PUB {subject} {size}\r\n"
        if size < 16_384:
            self._write(b"".join((head.encode(), *payload, b"\r\n")))
        else:
            self._write(head.encode(), *payload, b"\r\n")  # a large payload is not copied into the command

    @property
    def subscriptions(self) -> int:
        """The subjects that something of this process listens to."""
        return len(self._direct)

    @property
    def backlog_bytes(self) -> int:
        """Bytes accepted but not yet handed to the kernel."""
        return self._wide.queued_bytes

    async def written(self) -> None:
        """Wait until most of what was published has left this process (or the connection is gone)."""
        await self._wide.written()

    def _write(self, *parts: bytes | memoryview) -> None:
        # Not through nats-py's pending list: its flusher is a task that would have to wake up for every batch, while
        # the event loop gathers what is written to a socket in one turn by itself.
        self._wide.send(parts)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        # nats-py writes the PING past what is queued; a flush would then prove nothing about it.
        self._pongs.append(future if future is not None else asyncio.get_running_loop().create_future())
        self._write(PING_PROTO)

    async def _process_pong(self) -> None:
        # A flush that timed out has cancelled its future. nats-py would set that one's result when the server answers
        # after all, and the error would end the read loop: deaf until pings go unanswered, though flush() succeeds.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        if (violation := _VIOLATION.search(err_msg)) is not None:
            self._on_violation("publish" if violation[1] == "publish" else "subscribe", violation[2])
            return
        await super()._process_err(err_msg)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        subscription = self._direct.get(sid)
        if subscription is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        stats: dict[str, Any] = self.stats
        stats["in_msgs"] += 1
        stats["in_bytes"] += len(data)
        if headers and headers.startswith(_NO_RESPONDERS):
            if subscription.on_no_responders is not None:
                subscription.on_no_responders(subject.decode(), _target_of(headers), data)
            return
        subscription.handler(subject.decode(), reply.decode(), data)


def _target_of(headers: bytes) -> str:
    """Return the subject that a 503 names in its ``Nats-Subject`` header."""
    _, _, rest = headers.partition(b"Nats-Subject: ")
    return rest.partition(b"\r\n")[0].decode()
