from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import structlog

from hypha_common import trace
from hypha_common.errors import HyphaError, PayloadTooLarge, PeerNotFound, PermissionDenied, Unavailable
from hypha_common.ids import Address, role_of

from .calls import OutgoingCall, OutgoingCalls
from .chunks import MAX_FRAME_BYTES, send_in_chunks
from .frames import address_of, args_extra, call_extra, header
from .functions import CALL_TIMEOUT_S, Identity, Importer, absolute_target
from .remote import MethodNotFound, encoded_error, error_text, peer_lost
from .router import canonical, takes_whole_frames
from .sessions import Exporter, Sessions
from .values import decode as decode_value
from .values import encode as encode_value

__all__ = ["Outbox", "SendFrame", "is_role"]

log = structlog.get_logger()


class SendFrame(Protocol):
    """
    Takes a frame away. Synchronous and ordered; raises Unavailable while that is impossible.

    ``method`` and ``workspace`` are those of the header (a Router wants them). ``session`` is set where nobody at
    ``to`` must be reported to :meth:`RpcPeer.undeliverable`, ``ends`` where the frame settles that call of ``to``.

    """

    def __call__(
        self, frame: bytes, /, *, to: Address, method: str, workspace: str, session: str | None, ends: str | None
    ) -> None: ...


class Outbox:
    """What a peer sends: its own calls and their callbacks, and the frames that answer others."""

    def __init__(self, *, send: SendFrame, server_base_url: str, session_prefix: str, now: Callable[[], float]) -> None:
        self._send = send
        self._server = server_base_url
        self._prefix = session_prefix
        self.sessions = Sessions(now=now)
        self.calls = OutgoingCalls(session_prefix)
        self._sending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def sending(self) -> int:
        """How many long answers are on their way."""
        return len(self._sending)

    async def request(
        self,
        to: str,
        method: str,
        args: list[Any],
        kwargs: dict[str, Any] | None,
        *,
        identity: Identity,
        timeout: float = CALL_TIMEOUT_S,
        parent: str | None = None,
        encode: bool = True,
        decode: bool = True,
        ends: str | None = None,
        on_open: Callable[[OutgoingCall], None] | None = None,
        on_long: Callable[[OutgoingCall], None] | None = None,
    ) -> Any:
        """Call and return the answer. See :meth:`RpcPeer.call`."""
        if self._closed:
            raise Unavailable("Connection is closed")
        call = self.calls.open(to, method, timeout)
        call.on_long = on_long
        if on_open is not None:
            on_open(call)
        try:
            if encode:
                exporter = self._exporter(call.session, target=to, me=identity.sender)
                args, kwargs = encode_value(args, exporter), encode_value(kwargs, exporter)
            extra = call_extra(args, kwargs, interval=min(timeout / 2, 15.0))
            with trace.call(method, trace.CLIENT, trace.RPC):
                frame = _frame(to, method, extra, identity=identity, parent=parent, session=call.session)
                if _needs_chunks(frame, to, method):
                    await send_in_chunks(self, frame, to=to, identity=identity, parent=parent, ends=ends)
                else:
                    self._dispatch(frame, to, method, identity=identity, session=call.session, ends=ends)
                call.arm()
                value = await call.answer
            # Before the session ends: the answer may hold a function of ours that was an argument.
            return self.decoded(value, origin=to, identity=identity) if decode else value
        finally:
            self.calls.close(call)
            self.sessions.release(call.session)

    def notify(self, to: str, method: str, args: list[Any], *, identity: Identity, parent: str | None = None) -> None:
        """Call without waiting for an answer. Raises Unavailable."""
        exporter = self.exporter(target=to, me=identity.sender)
        extra = call_extra(encode_value(args, exporter), None, interval=None)
        self.post(to, method, extra, identity=identity, parent=parent)

    async def iterate_as(
        self, generator: Mapping[str, Any], *, origin: str, identity: Identity, timeout: float, decode: bool
    ) -> AsyncGenerator[Any, None]:
        """Yield the items of a remote generator; one that is left early is closed over there."""
        to = absolute_target(generator, origin)
        if to != origin:
            raise PermissionDenied(f"A generator of {to} cannot be passed on by {origin}")
        method, close = str(generator.get("_rmethod")), generator.get("_rclose_method")
        finished = False
        try:
            while True:
                item = await self.request(to, method, [], None, identity=identity, timeout=timeout, decode=False)
                if isinstance(item, dict) and item.get("_rtype") == "stop_iteration":
                    finished = True
                    return
                yield self.decoded(item, origin=to, identity=identity) if decode else item
        except (PeerNotFound, Unavailable):
            finished = True
            raise
        finally:
            if not finished and isinstance(close, str) and not self._closed:
                with suppress(Unavailable):  # it ends by age over there
                    self.notify(to, close, [], identity=identity)

    def post(
        self,
        to: str,
        method: str,
        extra: bytes,
        *,
        identity: Identity,
        parent: str | None,
        session: str | None = None,
        ends: str | None = None,
    ) -> None:
        """Send a frame that nobody here waits for; a long one in chunks, in the background. Raises Unavailable."""
        frame = _frame(to, method, extra, identity=identity, parent=parent)
        if not _needs_chunks(frame, to, method):
            self._dispatch(frame, to, method, identity=identity, session=session, ends=ends)
            return
        work = self._post_in_chunks(frame, to, method, identity=identity, parent=parent, ends=ends)
        task = asyncio.get_running_loop().create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def exporter(self, *, target: str, me: str) -> Exporter:
        """Return what keeps the callbacks of an answer or notification to ``target``."""
        return self._exporter(None, target=target, me=me)

    def decoded(self, value: Any, *, origin: str, identity: Identity, parent: str | None = None) -> Any:
        """Decode a value that ``origin`` sent."""
        return decode_value(
            value, Importer(self, origin=origin, identity=identity, parent=parent, trusted=is_role(origin))
        )

    def own_function(self, method: str, caller: str) -> Callable[..., Any] | None:
        """Return the function that ``caller`` was given under the name ``method``, as long as it may call it."""
        session_id, _, name = method.partition(".")
        try:
            return self.sessions.find(session_id, name, caller=caller, shown=method)
        except (MethodNotFound, PermissionDenied):
            return None

    def undeliverable(self, session: str) -> None:
        """Fail the call of ``session``: nobody is there."""
        call = self.calls.get(session)
        if call is not None:
            call.reject(PeerNotFound(f"Target peer {call.to} is not connected"))

    def lost(self, session: str) -> None:
        """Fail the call of ``session``: whoever had it is gone."""
        call = self.calls.get(session)
        if call is not None:
            call.reject(PeerNotFound(peer_lost(call.to)))

    def unsent(self, session: str, error: HyphaError) -> None:
        """Fail the call of ``session``, which was never sent, with the reason why."""
        call = self.calls.get(session)
        if call is not None:
            call.reject(error)

    def prolong(self, session: str, caller: str) -> bool:
        """Take a sign of life for a session of ours from its other end; False where there is no such session."""
        call = self.calls.get(session)
        if call is not None and canonical(call.to) == canonical(caller):
            call.heartbeat()
            return True
        return self.sessions.touch(session, caller)

    async def drain(self, timeout_s: float) -> None:
        """Wait until the long answers are sent, at most ``timeout_s``."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout_s)

    async def close(self) -> None:
        """Fail what waits and forget every callback."""
        self._closed = True
        for call in self.calls:
            call.reject(Unavailable("Connection is closed"))
        for task in list(self._sending):
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending)
        await self.sessions.close()

    def _exporter(self, session_id: str | None, *, target: str, me: str) -> Exporter:
        return Exporter(
            self.sessions,
            session_id=session_id,
            prefix=self._prefix,
            target=target,
            me=me,
            server_base_url=self._server,
        )

    def _dispatch(
        self, frame: bytes, to: str, method: str, *, identity: Identity, session: str | None, ends: str | None
    ) -> None:
        self._send(frame, to=address_of(to), method=method, workspace=identity.workspace, session=session, ends=ends)

    async def _post_in_chunks(
        self, frame: bytes, to: str, method: str, *, identity: Identity, parent: str | None, ends: str | None
    ) -> None:
        try:
            await send_in_chunks(self, frame, to=to, identity=identity, parent=parent, ends=ends)
        except HyphaError as error:
            log.warning("rpc_long_message_not_sent", to=to, method=method, size=len(frame), error=str(error))
            session, _, name = method.rpartition(".")
            if name != "resolve" or isinstance(error, (PeerNotFound, Unavailable)):
                return
            # The caller is there, but did not take the answer: it must not wait for ever.
            text = error_text(PayloadTooLarge(f"The answer could not be sent: {error}"))
            extra = args_extra(encoded_error(text))
            self.post(to, f"{session}.reject", extra, identity=identity, parent=parent, ends=ends)


def is_role(address: str) -> bool:
    """Tell whether a role answers at an absolute address."""
    workspace, _, client = address.partition("/")
    return role_of(workspace, client) is not None


def _frame(
    to: str, method: str, extra: bytes, *, identity: Identity, parent: str | None, session: str | None = None
) -> bytes:
    head = header(
        sender=identity.sender,
        to=to,
        method=method,
        workspace=identity.workspace,
        user=identity.user,
        session=session,
        parent=parent,
        context=trace.current() if session is not None else "",
    )
    return head + extra


def _needs_chunks(frame: bytes, to: str, method: str) -> bool:
    return len(frame) > MAX_FRAME_BYTES and not takes_whole_frames(address_of(to), method)
