from __future__ import annotations

from typing import Any

from hypha_common.bus import Bus
from hypha_common.errors import BadRequest
from hypha_common.revocation import Entry
from hypha_common.security_feed import Policy

from .audit_repository import AuditRows
from .block_repository import BlockRows
from .custom_repository import CustomAuthRow
from .key_ring import KeyRing
from .repository import RevokedTokenRows

__all__ = ["SecurityVerbs"]

_PAGE = 5000
_MAX_EVENTS = 1000


class SecurityVerbs:
    """
    Tells every process what it must know to judge callers, and takes down what they have judged.

    Verbs ``revoked``, ``policy``, ``jwks`` and ``audit``. What the auth service itself must know, it is told here, too.

    """

    def __init__(
        self, *, revoked: RevokedTokenRows, blocks: BlockRows, ring: KeyRing, audit: AuditRows, custom: CustomAuthRow
    ) -> None:
        self._revoked = revoked
        self._blocks = blocks
        self._ring = ring
        self._audit = audit
        self._custom = custom

    async def serve(self, bus: Bus) -> None:
        await bus.serve("auth", "revoked", self.revoked_page)
        await bus.serve("auth", "policy", lambda message: self.policy())
        await bus.serve("auth", "jwks", self.jwks)
        await bus.serve("auth", "audit", self.store)

    async def revoked(self) -> list[Entry]:
        """Return the whole list."""
        entries = page = await self._revoked.page("", _PAGE)
        while len(page) == _PAGE:
            page = await self._revoked.page(page[-1][0], _PAGE)
            entries = entries + page
        return entries

    async def revoked_page(self, message: dict[str, Any]) -> dict[str, Any]:
        """``{after?}`` -> ``{ids: [[token id, until]], next}``: one page of the list; ``next`` is None at its end."""
        entries = await self._revoked.page(str(message.get("after") or ""), _PAGE)
        return {"ids": [list(entry) for entry in entries], "next": entries[-1][0] if len(entries) == _PAGE else None}

    async def policy(self) -> Policy:
        """Return everything that may be taken back: ``{blocks, keys, custom_auth}``."""
        blocks, keys, custom = await self._blocks.current(), await self._ring.refresh(), await self._custom.get()
        return {
            "blocks": [block.dump() for block in blocks],
            "keys": keys,
            "custom_auth": None if custom is None else custom.dump(),
        }

    async def jwks(self, message: dict[str, Any]) -> dict[str, Any]:
        """``{}`` -> ``{keys}``: the public keys with which tokens are verified (RFC 7517)."""
        return {"keys": await self._ring.refresh()}

    async def store(self, message: dict[str, Any]) -> None:
        """``{events}``: security events, as :class:`hypha_common.audit.Audit` sends them."""
        events = message.get("events")
        if not isinstance(events, list) or len(events) > _MAX_EVENTS:
            raise BadRequest("events must be a list")
        await self._audit.add(events)
