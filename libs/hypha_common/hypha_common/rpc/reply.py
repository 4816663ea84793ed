from __future__ import annotations

from typing import Any, Protocol

import structlog

from hypha_common.errors import HyphaError

from .frames import Promise, args_extra
from .functions import Identity
from .remote import encoded_error, error_text
from .service import Packed
from .values import Local, encode

__all__ = ["Reply"]

log = structlog.get_logger()


class Outbox(Protocol):
    """What replies need of the peer."""

    def post(
        self,
        to: str,
        method: str,
        extra: bytes,
        *,
        identity: Identity,
        parent: str | None,
        session: str | None = ...,
        ends: str | None = ...,
    ) -> None: ...

    def exporter(self, *, target: str, me: str) -> Local: ...


class Reply:
    """The way back to whoever made a call; without a promise everything is dropped (contract 01 §2.2)."""

    __slots__ = ("_identity", "_outbox", "_promise", "_session", "interval", "method", "sender")

    def __init__(
        self,
        outbox: Outbox,
        promise: Promise | None,
        *,
        sender: str,
        session: str | None,
        method: str,
        identity: Identity,
    ) -> None:
        self._outbox = outbox
        self._promise = promise
        self._session = session
        self._identity = identity
        self.sender = sender
        self.method = method
        self.interval = promise.interval if promise is not None and promise.heartbeat is not None else None

    def resolve(self, value: Any) -> None:
        """Answer with a value; one that cannot be sent becomes a rejection."""
        if self._promise is None:
            return
        try:
            if not isinstance(value, Packed):
                value = encode(value, self._outbox.exporter(target=self.sender, me=self._identity.sender))
            extra = args_extra(value)
        except HyphaError as error:
            log.warning("rpc_result_not_sendable", method=self.method, error=str(error))
            self.reject(error_text(error))
            return
        self._post(self._promise.resolve, extra)

    def reject(self, text: str) -> None:
        """Answer with an error."""
        if self._promise is not None:
            self._post(self._promise.reject, args_extra(encoded_error(text)))

    def heartbeat(self, label: str) -> None:
        """Tell the caller that its call is being worked on; ``label`` comes back if nobody is there."""
        if self._promise is None or self._promise.heartbeat is None:
            return
        try:
            self._outbox.post(
                self.sender,
                self._promise.heartbeat,
                b"",
                identity=self._identity,
                parent=self._session,
                session=label,
            )
        except HyphaError as error:  # the bus is away: the next one may get through
            log.info("rpc_heartbeat_not_sent", to=self.sender, error=str(error))

    def _post(self, method: str, extra: bytes) -> None:
        session = self._session or method.rpartition(".")[0]
        try:
            self._outbox.post(self.sender, method, extra, identity=self._identity, parent=self._session, ends=session)
        except HyphaError as error:
            log.warning("rpc_answer_not_sent", to=self.sender, method=self.method, error=str(error))
