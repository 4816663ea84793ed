from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import Blocked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypha_common.blocks import BlockList
    from hypha_common.principal import Principal

    from .session import Session

__all__ = ["ROOT_USER", "check_blocked", "end_blocked"]

log = structlog.get_logger(__name__)

_POLICY = 1008
ROOT_USER = "root"


def check_blocked(blocks: BlockList, principal: Principal | None, address: str) -> None:
    """Raise Blocked where a caller, who gave it its token, or its address is kept out. Nobody keeps root out."""
    if principal is None:
        blocks.check((), address)
    elif principal.id != ROOT_USER:
        blocks.check((principal.id,) if principal.parent is None else (principal.id, principal.parent), address)


def end_blocked(blocks: BlockList, sessions: Iterable[Session]) -> None:
    """End the sessions of whoever is kept out now; those that are still being let in are checked by the handshake."""
    if not len(blocks):
        return
    ended = 0
    for session in list(sessions):
        if session.admission is None or session.ended:
            continue
        try:
            check_blocked(blocks, session.admission.principal, session.link.remote)
        except Blocked as error:
            session.link.send_control({"type": "error", "message": error.message})
            session.leave(_POLICY, error.message)
            ended += 1
    if ended:
        log.info("sessions_blocked", count=ended)
