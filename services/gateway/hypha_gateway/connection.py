from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import QuotaExceeded
from hypha_common.faults import note_fault
from hypha_common.ids import Address
from hypha_common.principal import Permission, Principal
from hypha_common.subjects import partition_of
from hypha_common.trace import new, trace_id
from hypha_common.wire import Stamp

from . import metrics
from .gate import Gate
from .link import Buffers, Link
from .rates import TokenBucket
from .rejection import rejection
from .windows import Receipts

if TYPE_CHECKING:
    from hypha_common.bus import Subscription

    from .router import Router
    from .streaming.inbox import Inbox

__all__ = ["Connection"]

log = structlog.get_logger(__name__)

_REFUSALS = frozenset({1003, 1008, 1009})  # close codes that blame the client
RATE_EXCEEDED = "Rate limit exceeded: too many messages per second"

_numbers = count(1)


class Connection:
    """
    One authenticated client on one link.

    It owns everything that was made on its behalf at this gateway: its place in the table, its interest on the bus,
    its event subscriptions and its calls to roles. All of it ends with it.

    """

    def __init__(
        self,
        link: Link,
        *,
        address: Address,
        generation: int,
        principal: Principal,
        permission: Permission,
        instance: str,
        rate: TokenBucket,
        max_queue_bytes: int,
        router: Router,
        transport: str = "websocket",
    ) -> None:
        self.number = next(_numbers)
        self.link = link
        self.transport = transport
        self.address = address
        self.generation = generation
        self.principal = principal
        self.may_broadcast = permission >= Permission.READ_WRITE
        self.stamp = Stamp(sender=str(address), workspace=address.workspace, user=principal.dump())
        self.connected_at = time.time()
        self._made = time.monotonic()
        self.last_frame = time.monotonic()
        self.last_sent = self.last_frame  # when the client last sent a frame: pings of its transport are none
        self.frames_sent = 0
        self.asked = 0  # answers to come that show nothing but that the client is there
        self.interest: Subscription | None = None
        self.event_types: set[str] = set()
        self.pins: dict[str, str] = {"workspace": instance}  # role -> the replica that answers this connection
        self.closed = False
        self.full_since: float | None = None  # time.monotonic() since the peer reads too slowly
        self.queued_then = 0
        self.receipts = Receipts()
        self._rate = rate
        self._max_queue_bytes = max_queue_bytes
        self._router = router
        self._gate = Gate()
        self._backlog: deque[bytes] = deque()
        self.blocked = False  # reading is paused until a gate opens
        self.inbox: Inbox | None = None  # where its POSTs go, if it is a stream
        # Frames that came before connection_info was out, or after the client was told to come back elsewhere.
        self._held: list[Buffers] | None = []
        self.moving = False
        self.arriving = False  # what an older connection kept for it is still to come
        self.held_bytes = 0  # while it is moving
        self._held_before = 0  # that many frames came before a newer connection was made
        self._load = 0
        self._load_since = time.monotonic()

    def open(self, connection_info: Mapping[str, Any]) -> None:
        """Tell the client that it is connected, then give it what came in the meantime."""
        self.link.send_control(connection_info)
        held, self._held = self._held, None
        for parts in held or ():
            self.deliver(parts)

    @property
    def age_s(self) -> float:
        """Seconds since shortly before this client could first be reached here."""
        return time.monotonic() - self._made

    @property
    def partition(self) -> int:
        """The partition of its workspace: whose replicas of roles answer it."""
        return partition_of(self.address.workspace)

    def hold(self) -> None:
        """Keep what comes for the client from now on: it is on its way to another gateway."""
        self.moving = True
        self._held = []

    def superseded(self) -> None:
        """A newer connection was made: from now on frames may reach both."""
        self._held_before = len(self._held or ())

    def take_held(self) -> tuple[list[bytes], list[bytes]]:
        """Return the frames that were kept: those that only we have, and those that a newer connection may have too."""
        held, self._held = [b"".join(parts) for parts in self._held or ()], []
        return held[: self._held_before], held[self._held_before :]

    def take_over(self, alone: Sequence[bytes], shared: Sequence[bytes], *, age_s: float) -> None:
        """Put before our first frames those that an older connection kept; ``shared`` may be among ours."""
        self._made = min(self._made, time.monotonic() - age_s)
        twice = Counter(shared)
        ours: list[Buffers] = []
        for parts in self._held or ():
            frame = b"".join(parts)
            if twice[frame]:
                twice[frame] -= 1
            else:
                ours.append(parts)
        self._held = [*((frame,) for frame in (*alone, *shared)), *ours]

    def touch(self) -> None:
        """The client has shown that it is there."""
        self.last_frame = time.monotonic()

    def receive(self, data: bytes) -> None:
        """Take one frame from the client."""
        now = time.monotonic()
        self.last_frame = self.last_sent = now
        self.frames_sent += 1
        if not self._rate.take(now):
            metrics.RATE_LIMITED.inc()
            self.end(1008, RATE_EXCEEDED)
            return
        if self.blocked:
            self._backlog.append(data)
        else:
            self._route(data)

    def submit(self, data: bytes) -> None:
        """
        Take one frame from a client that is told what becomes of it, while the connection is not blocked.

        Raises QuotaExceeded where it sends too fast.

        """
        now = time.monotonic()
        self.last_frame = now
        if self.asked:
            self.asked -= 1
        else:
            self.last_sent = now
            self.frames_sent += 1
        if not self._rate.take(now):
            metrics.RATE_LIMITED.inc()
            raise QuotaExceeded(RATE_EXCEEDED)
        self._route(data)

    def block(self, gate: Gate, *, retry: bytes | None = None) -> None:
        """Stop taking frames from the client until ``gate`` opens; then route ``retry`` first."""
        if retry is not None:
            self._backlog.appendleft(retry)
        self.blocked = True
        self.link.pause_reading()
        gate.wait(self)

    def resume(self) -> None:
        self.blocked = False
        self.touch()  # it may have said something that we did not read
        while self._backlog and not self.blocked and not self.closed:
            self._route(self._backlog.popleft())
        if not self.blocked and not self.closed:
            self.link.resume_reading()

    def deliver(self, parts: Buffers) -> Gate | None:
        """Send one frame to the client; return a gate where a sender that can wait should wait."""
        if self.closed:
            return None
        if self._held is not None:
            self._held.append(parts)
            if self.moving:
                self.held_bytes += sum(map(len, parts))
            return None
        self._load += 1
        self.link.send_binary(parts)
        if self.full_since is None:
            return None
        if self.link.queued_bytes > self._max_queue_bytes:
            self.cut_off()
            return None
        return self._gate

    def take_load(self) -> float:
        """Return the frames a minute delivered since the last time."""
        now = time.monotonic()
        elapsed_s = max(now - self._load_since, 0.001)
        load, self._load, self._load_since = self._load * 60 / elapsed_s, 0, now
        return load

    def on_full(self) -> None:
        if self.full_since is None:
            self.full_since = time.monotonic()
            self.queued_then = self.link.queued_bytes
            self._router.slow.add(self)

    def on_drained(self) -> None:
        self.full_since = None
        self._router.slow.discard(self)
        self._router.acknowledge(self)
        self._gate.open()

    def cut_off(self) -> None:
        """End a connection whose client does not read."""
        metrics.SLOW_CLOSED.inc()
        log.warning("slow_client_closed", client=str(self.address), queued_bytes=self.link.queued_bytes)
        self.closed = True
        self.link.abort()

    def reject(self, session: str, to: str, text: str, *, context: str = "") -> None:
        """Fail one call of the client; ``to`` is what it addressed, ``context`` the trace of the call."""
        error_id, client = trace_id(context or new()), str(self.address)
        note_fault("call_refused", caller=client, to=to, error=text, trace_id=error_id)
        self.deliver((rejection(sender=to, to=client, session=session, text=text, error_id=error_id),))

    def end(self, code: int, reason: str) -> None:
        """Close with a close frame."""
        if code in _REFUSALS:
            note_fault("connection_refused", client=str(self.address), code=code, reason=reason)
        self.link.close(code, reason)

    def abort(self) -> None:
        """End without a close frame, as a superseded connection does (contract 01 §1.4 point 9)."""
        self.closed = True
        self.link.abort()

    def release(self) -> None:
        """Let everybody go who waits for this connection; called when its link has ended."""
        self.closed = True
        self.full_since = None
        self._backlog.clear()
        self._router.slow.discard(self)
        self._gate.open()

    def _route(self, data: bytes) -> None:
        gate = self._router.route(self, data)
        if gate is not None:
            self.block(gate)
