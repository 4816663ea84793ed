from __future__ import annotations

import asyncio

import structlog

from hypha_common import envelope
from hypha_common.bus import Bus
from hypha_common.errors import DeadlineExceeded, HyphaError, InternalError, NobodyServes, NotFound, Unavailable
from hypha_common.ids import Address
from hypha_common.subjects import client_frames
from hypha_gateway.connection import Connection
from hypha_gateway.table import ConnectionTable
from hypha_gateway.windows import SendWindows

from .proof import Proof

__all__ = ["Posts"]

log = structlog.get_logger(__name__)

_ANSWER_S = 25.0  # longer than an inbox lets a POST wait, shorter than clients do
_PROBE_S = 1.0
_MAX_AT_ONCE = 2000


class Posts:
    """
    Brings what streaming clients POST to the gateway that holds their stream.

    A load balancer may send each POST to another gateway. Nobody keeps a list of who is where: the POST goes to the
    subject of the client's frames, to which exactly the owner of its stream listens, and the owner answers.

    """

    def __init__(self, *, bus: Bus, table: ConnectionTable, windows: SendWindows) -> None:
        self._bus = bus
        self._table = table
        self._windows = windows
        self._running: set[asyncio.Task[None]] = set()

    async def take(self, client: Address, proof: Proof, body: bytes) -> bool:
        """
        Hand a POST to the stream of ``client``; False where there is none.

        Raises what :meth:`Inbox.take` does, and DeadlineExceeded where it is not known what became of it.

        """
        connection = self._table.connection(client.workspace, client.client)
        try:
            if connection is None:
                await self._forward(client, proof, body)
            else:
                await self._give(connection, proof, body)
        except (NobodyServes, NotFound):
            return False
        return True

    def from_bus(self, connection: Connection, reply: str, post: envelope.Envelope) -> None:
        """Take a POST that came in at another gateway."""
        if len(self._running) >= _MAX_AT_ONCE:
            self._bus.answer(reply, error=Unavailable("Overloaded, please retry"))
            return
        task = asyncio.create_task(self._answer(connection, reply, Proof.load(post.label), bytes(post.body)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, connection: Connection, reply: str, proof: Proof, body: bytes) -> None:
        try:
            await self._give(connection, proof, body)
        except HyphaError as error:
            self._bus.answer(reply, error=error)
        except Exception:  # the edge of a request: whatever went wrong, the other gateway gets an answer
            log.exception("post_failed", client=str(connection.address))
            self._bus.answer(reply, error=InternalError("Internal error"))
        else:
            self._bus.answer(reply)

    async def _give(self, connection: Connection, proof: Proof, body: bytes) -> None:
        if connection.inbox is None:
            raise NotFound(f"{connection.address} is not connected by a stream")
        await connection.inbox.take(proof, body)

    async def _forward(self, client: Address, proof: Proof, body: bytes) -> None:
        subject = client_frames(client.workspace, client.client)
        head = envelope.post(self._bus.instance_bytes, proof.dump())
        window, size = f"{subject} POST", len(head) + len(body)
        try:
            async with asyncio.timeout(_ANSWER_S):
                while (gate := self._windows.gate(window)) is not None:
                    await gate.opened()
                if self._bus.is_congested:
                    await self._bus.written()
        except TimeoutError:
            raise Unavailable("Too much is waiting to be passed on, please retry") from None
        self._windows.charge(window, size)
        asking = asyncio.create_task(self._bus.ask(subject, head, body, timeout=_ANSWER_S))
        try:
            while not (await asyncio.wait((asking,), timeout=_PROBE_S))[0]:
                if not await self._bus.listens(subject):
                    raise DeadlineExceeded("The gateway of the stream is gone, perhaps with the message")
            await asking
        finally:
            asking.cancel()
            self._windows.receipt(window, size)
