from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog

from hypha_common.blocks import Block, BlockKind
from hypha_common.bus import Bus
from hypha_common.errors import HyphaError
from hypha_common.revocation import Entry
from hypha_common.security_feed import announce, announce_revoked

__all__ = ["Announcer"]

log = structlog.get_logger(__name__)


class Announcer:
    """
    Tells every process what has changed, once that is stored.

    Never raises: an announcement that cannot be sent is made good by the next listing of everybody, within 30 s.

    """

    def __init__(self, bus: Bus | None) -> None:
        self._bus = bus  # None: there is nobody to tell

    def revoked(self, entries: Iterable[Entry]) -> None:
        if self._bus is None:
            return
        try:
            announce_revoked(self._bus, entries)
        except HyphaError as error:
            self._failed(error)

    def blocked(self, block: Block) -> None:
        self.changed(blocked=[block])

    def unblocked(self, kind: BlockKind, name: str) -> None:
        self.changed(unblocked=[(str(kind), name)])

    def changed(
        self, *, blocked: Iterable[Block] = (), unblocked: Iterable[tuple[str, str]] = (), **changed: Any
    ) -> None:
        """Tell that blocks, signing keys or custom authentication are not what they were."""
        if self._bus is None:
            return
        try:
            announce(self._bus, blocked=blocked, unblocked=unblocked, **changed)
        except HyphaError as error:
            self._failed(error)

    def _failed(self, error: HyphaError) -> None:
        log.warning("not_announced", error=str(error))
