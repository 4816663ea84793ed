from __future__ import annotations

import time

import structlog

from hypha_common.audit import Audit
from hypha_common.revocation import key_mark

from .announcing import Announcer
from .key_making import Sealer, make_key
from .key_repository import KeyRows
from .revoking import MAX_LIFE_S

__all__ = ["KeyRotation"]

log = structlog.get_logger(__name__)


class KeyRotation:
    """Puts new signing keys in the place of old ones, and tells the cluster."""

    def __init__(self, rows: KeyRows, sealer: Sealer, announcer: Announcer, audit: Audit) -> None:
        self._rows = rows
        self._sealer = sealer
        self._announcer = announcer
        self._audit = audit

    async def rotate(self, *, by: str) -> str:
        """Sign with a new key from now on, and return its id. What old ones have signed stays good."""
        key = make_key(self._sealer)
        if not await self._rows.rotate(key):  # somebody rotated at this very moment: theirs is as new
            rows = await self._rows.all()
            key = next(row for row in rows if row.retired_at is None)
        self._announcer.changed()
        log.info("keys_rotated", key_id=key.id, by=by)
        self._audit.record("keys_rotated", user=by, key_id=key.id)
        return key.id

    async def drop(self, key_id: str, *, by: str) -> None:
        """Refuse everything that a leaked key has signed, and what came of it, from now on. Raises NotFound."""
        mark, until = key_mark(key_id), time.time() + MAX_LIFE_S  # whatever descends from its tokens
        await self._rows.drop(key_id, make_key(self._sealer), mark=mark, until=until, by=by)
        self._announcer.revoked([(mark, until)])
        self._announcer.changed()
        log.info("key_dropped", key_id=key_id, by=by)
        self._audit.record("keys_rotated", user=by, dropped=key_id)
