from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from hypha_common.verifier import REVOKED

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Credentials"]

log = structlog.get_logger(__name__)

_POLICY = 1008
_GRACE_S = 0.2  # whoever revokes the token that it came in with hears that it is done


class Credentials:
    """Which sessions stand on which tokens: whoever came in with a token goes when it is revoked."""

    def __init__(self) -> None:
        self._sessions: dict[str, set[Session]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session, token_ids: Iterable[str]) -> None:
        for token_id in token_ids:
            self._sessions.setdefault(token_id, set()).add(session)

    def remove(self, session: Session, token_ids: Iterable[str]) -> None:
        for token_id in token_ids:
            sessions = self._sessions.get(token_id)
            if sessions is not None:
                sessions.discard(session)
                if not sessions:
                    del self._sessions[token_id]

    def revoked(self, token_ids: Iterable[str]) -> None:
        """End every session that stands on one of these."""
        ending = {session for token_id in token_ids for session in self._sessions.get(token_id, ())}
        if ending:
            asyncio.get_running_loop().call_later(_GRACE_S, _end, ending)
            log.info("sessions_revoked", count=len(ending))


def _end(sessions: Iterable[Session]) -> None:
    for session in sessions:
        if not session.ended:
            session.leave(_POLICY, f"Authentication error: {REVOKED}")
