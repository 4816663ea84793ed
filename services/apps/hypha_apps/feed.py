from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.envelope import Kind, open_envelope
from hypha_common.errors import HyphaError, Unavailable
from hypha_common.subjects import broadcast, decode_token
from hypha_common.wire import pack, split_frame, unpack

if TYPE_CHECKING:
    from hypha_common.bus import Bus

    from .session import Session

__all__ = ["Feed", "Left", "Watch"]

log = structlog.get_logger(__name__)

_EVENTS = "hy.e.*.*"
_CHANGED = broadcast("app_session")
_WORKER = b"server-app-worker"
_DELETED = broadcast("workspace_deleted")
_ENDING = frozenset({"client_disconnected", "workspace_unloaded"})
_WAKING = frozenset({"client_connected", "client_updated", "service_added", "service_updated"})


@dataclass(frozen=True, slots=True)
class Left:
    """A client whose connection is said to have ended."""

    workspace: str
    client_id: str


class Watch:
    """Something that may have changed: :meth:`changed` returns at once where it has since the last time."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def changed(self, timeout_s: float) -> None:
        """Return when it may have changed, or after ``timeout_s``: events can be lost, so look anyway."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


class Feed:
    """
    What happens in the cluster, as far as it concerns apps: connections and services come and go, sessions change.

    It only says that it is time to look: what is true is in the registry and in the database.

    Listeners (``on_…``) neither block nor raise.

    """

    def __init__(self, bus: Bus, serves: Callable[[str], bool]) -> None:
        self._bus = bus
        self._serves = serves  # whether a workspace is one of those that this replica serves
        self._watches: dict[tuple[str, str], set[Watch]] = {}
        self.on_left: list[Callable[[Left], None]] = []
        self.on_worker: list[Callable[[str], None]] = []  # a worker has appeared in this workspace
        self.on_unloaded: list[Callable[[str], None]] = []  # a workspace
        self.on_deleted: list[Callable[[str], None]] = []  # a workspace

    async def start(self) -> None:
        await self._bus.subscribe(_EVENTS, self._take_event)
        await self._bus.subscribe(_CHANGED, self._take_change)
        await self._bus.subscribe(_DELETED, self._take_deletion)
        self._bus.on_reconnected.append(self._wake_all)

    @contextmanager
    def watch(self, workspace: str, client_id: str) -> Iterator[Watch]:
        """
        Watch an instance: its connection, its services and its session.

        Watch first, then read what is true, then wait: nothing is missed in between.

        """
        key, watch = (workspace, client_id), Watch()
        self._watches.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[key].discard(watch)
            if not self._watches[key]:
                del self._watches[key]

    def tell(self, session: Session) -> None:
        """Tell everybody that waits for a session, at whatever replica, that it changed."""
        try:
            self._bus.publish(_CHANGED, pack([session.workspace, session.client_id]))
        except Unavailable:
            log.info("session_change_untold", session=session.id)

    def _take_event(self, subject: str, reply: str, payload: bytes) -> None:
        try:
            envelope = open_envelope(payload)
            if envelope.kind is not Kind.EVENT:
                return
            # Services may be described at length: read only what somebody waits for.
            of_worker = envelope.label == "service_added" and _WORKER in bytes(envelope.body)
            if of_worker or envelope.label in _ENDING or (envelope.label in _WAKING and self._watches):
                self._take(envelope.label, split_frame(envelope.body)[0]["data"], subject)
        except (HyphaError, KeyError, TypeError) as error:
            log.warning("event_not_understood", subject=subject, error=repr(error))

    def _take(self, label: str, data: Any, subject: str) -> None:
        # Members of a workspace can say there what they like, so events prove nothing, and concern that workspace only,
        # whose sessions they may stop anyway.
        here = decode_token(subject.rpartition(".")[2])
        if label == "client_disconnected":
            left = Left(here, str(data["id"]))
            self._wake(left.workspace, left.client_id)
            for listener in self.on_left:
                listener(left)
        elif label == "workspace_unloaded":
            for heard in self.on_unloaded if self._serves(here) else ():
                heard(here)
        else:
            self._wake(*_who(data))
            if label == "service_added" and data.get("type") == _WORKER.decode():
                for told in self.on_worker:
                    told(_who(data)[0])

    def _take_deletion(self, subject: str, reply: str, payload: bytes) -> None:
        try:
            workspace = unpack(payload)["workspace"]
        except (HyphaError, KeyError, TypeError) as error:
            log.warning("event_not_understood", subject=subject, error=repr(error))
            return
        for listener in self.on_deleted if self._serves(workspace) else ():
            listener(workspace)

    def _take_change(self, subject: str, reply: str, payload: bytes) -> None:
        workspace, client_id = unpack(payload)
        self._wake(workspace, client_id)

    def _wake(self, workspace: str, client_id: str) -> None:
        for watch in self._watches.get((workspace, client_id), ()):
            watch.wake()

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.wake()


def _who(data: Any) -> tuple[str, str]:
    """Return (workspace, client) of an event's data: a service or a client, by its full id."""
    workspace, _, rest = str(data["id"]).partition("/")
    return workspace, rest.partition(":")[0]
