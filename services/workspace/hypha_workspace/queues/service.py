from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import BadRequest, DeadlineExceeded, HyphaError, PeerNotFound, Unavailable
from hypha_common.ids import HTTP_CLIENT_PREFIX
from hypha_common.principal import Permission
from hypha_common.rpc.service import Packed, Service, rpc_method
from hypha_common.subjects import broadcast, client_frames, gateway_verb
from hypha_common.wire import pack, unpack
from hypha_workspace.manager.access import authorize
from hypha_workspace.manager.bounds import check_size

from .json_task import check_task
from .line import Lines
from .turns import Turns

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.rpc.caller import Caller

    from .repository import Key, Queues, Taken

__all__ = ["TaskQueues"]

log = structlog.get_logger(__name__)

MAX_TASK_BYTES = 2**20
MAX_WAIT_S = 300.0
MAX_PEEK = 100

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PUSHED = broadcast("pushed")
_LOOK_INTERVAL_S = 1.0
_ASK_TIMEOUT_S = 2.0
_FRESH_S = 0.02  # a caller that asked this moment is there
# A task that nobody waits for any more is put back for as long as this where the database is away, or is just left by
# the partition; for less when the process stops.
_RETURN_FOR_S = 120.0
_RETURN_LAST_S = 10.0
_RETURN_AGAIN_S = 0.5


class TaskQueues:
    """
    The service ``public/queue`` (contract 03 §6.2): first in, first out, one name space for each workspace.

    Who waits for a task is told over the bus when one is pushed at any replica. That is a hint, and may be lost: each
    replica also looks once a second into the queues at which somebody waits.

    """

    def __init__(self, queues: Queues, bus: Bus) -> None:
        self._queues = queues
        self._bus = bus
        self._lines = Lines()
        self._pushing = Turns()
        self._returning: set[asyncio.Task[None]] = set()
        self._draining = False
        self._looking: asyncio.Task[None] | None = None

    def service(self) -> Service:
        """Return what clients call."""
        return Service.of(
            "queue",
            self,
            name="Task queues",
            description="Queues of tasks: maps that one client of a workspace pushes and another one pops.",
            visibility="public",
            config={"require_context": True},
        )

    async def start(self) -> None:
        await self._bus.subscribe(_PUSHED, self._pushed)
        self._looking = asyncio.create_task(self._look(), name="queues")

    def drain(self) -> None:
        """Let everybody go who waits: they get nothing, as after their timeout, and ask again elsewhere."""
        self._draining = True
        self._lines.dissolve()

    async def close(self) -> None:
        """Stop; tasks that were taken for a call that is no more are back in their queues when this returns."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        if self._returning:
            _, left = await asyncio.wait(self._returning, timeout=_RETURN_LAST_S)
            for returning in left:
                returning.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    @rpc_method
    async def push(self, queue_name: str, task: dict[str, Any], *, context: Caller) -> None:
        """
        Append a task to a queue of your workspace.

        Args:
            queue_name: The queue: letters, digits, `_`, `.` and `-`, at most 128.
            task: A map of JSON values, at most 1 MiB.

        """
        key = _key(queue_name, context)
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        packed = pack(check_size(check_task(task), "The task", MAX_TASK_BYTES))
        async with self._pushing.of(key):  # in the order in which they came
            await self._queues.push(*key, packed)
        self._lines.wake(key)
        with suppress(Unavailable):  # a hint
            self._bus.publish(_PUSHED, pack(list(key)))

    @rpc_method
    async def pop(self, queue_name: str, timeout: float = 30, *, context: Caller) -> Packed | None:
        """
        Remove the oldest task of a queue and return it, or null where there is none in time.

        Args:
            queue_name: The queue.
            timeout: How many seconds to wait for a task, at most 300; 0: not at all.

        """
        key = _key(queue_name, context)
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        if not 0 <= timeout <= MAX_WAIT_S:
            raise BadRequest(f"timeout must be between 0 and {MAX_WAIT_S:g} seconds")
        taken = await (self._wait(key, timeout, context) if timeout else self._take(key, context))
        return None if taken is None else Packed(taken.task)

    @rpc_method
    async def get_length(self, queue_name: str, *, context: Caller) -> int:
        """
        Return how many tasks are in a queue.

        Args:
            queue_name: The queue.

        """
        key = _key(queue_name, context)
        authorize(context.principal, Permission.READ, context.workspace)
        return await self._queues.length(*key)

    @rpc_method
    async def peek(self, queue_name: str, n: int = 1, *, context: Caller) -> list[Any]:
        """
        Return the oldest tasks of a queue, which stay there.

        Args:
            queue_name: The queue.
            n: How many tasks, at most 100.

        """
        key = _key(queue_name, context)
        authorize(context.principal, Permission.READ, context.workspace)
        if not 1 <= n <= MAX_PEEK:
            raise BadRequest(f"n must be between 1 and {MAX_PEEK}")
        return [unpack(task) for task in await self._queues.peek(*key, n)]

    async def _wait(self, key: Key, timeout_s: float, context: Caller) -> Taken | None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        deadline = begun + timeout_s
        with self._lines.join(key) as place:
            while not self._draining and await place.turn(max(0.0, deadline - loop.time())):
                if loop.time() > begun + _FRESH_S:
                    await self._check_waits(context)
                if (taken := await self._take(key, context)) is not None:
                    return taken
        return None

    async def _take(self, key: Key, context: Caller) -> Taken | None:
        taking = asyncio.ensure_future(
            self._queues.take(*key, client_id=context.sender.client, generation=context.generation or None)
        )
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # Nobody waits for it any more, but the database may have given a task away.
            returning = asyncio.create_task(self._return(key, taking))
            self._returning.add(returning)
            returning.add_done_callback(self._returning.discard)
            raise

    async def _return(self, key: Key, taking: asyncio.Future[Taken | None]) -> None:
        try:
            taken = await taking
        except HyphaError as error:  # as whoever waited for it would have been told
            log.info("task_not_taken", workspace=key[0], queue=key[1], error=str(error))
            return
        if taken is None:
            return
        returned = False
        try:
            async with asyncio.timeout(_RETURN_FOR_S):
                await self._put_back(key, taken)
            returned = True
        except TimeoutError:
            pass
        finally:
            if not returned:
                log.error("task_lost", workspace=key[0], queue=key[1])
        self._lines.wake(key)

    async def _put_back(self, key: Key, taken: Taken) -> None:
        while True:
            try:
                await self._queues.put_back(*key, taken)
                return
            except (Unavailable, DeadlineExceeded) as error:
                log.info("task_not_returned_yet", workspace=key[0], queue=key[1], error=str(error))
            await asyncio.sleep(_RETURN_AGAIN_S)

    async def _check_waits(self, context: Caller) -> None:
        """Raise PeerNotFound where the caller is gone: a task given to nobody would be lost."""
        if context.sender.client.startswith(HTTP_CLIENT_PREFIX):
            message = {"session": context.session}
            subject = gateway_verb(context.gateway, "awaits")
            there = (await self._bus.request(subject, message, timeout=_ASK_TIMEOUT_S))["awaits"]
        else:
            there = await self._bus.listens(client_frames(context.sender.workspace, context.sender.client))
        if not there:
            raise PeerNotFound(f"Target peer {context.sender} is not connected")

    def _pushed(self, subject: str, reply: str, payload: bytes) -> None:
        workspace, name = unpack(payload)
        self._lines.wake((workspace, name))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            if not self._lines:
                continue
            try:
                for key in await self._queues.filled(self._lines):
                    self._lines.wake(key)
            except HyphaError as error:
                log.warning("queues_not_looked_at", error=str(error))


def _key(queue_name: str, context: Caller) -> Key:
    if not _NAME.fullmatch(queue_name):
        shown = queue_name[:130]
        raise BadRequest(f"Invalid queue name: {shown if shown and shown.isprintable() else repr(shown)}")
    return context.workspace, queue_name
