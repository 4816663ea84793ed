from __future__ import annotations

import hashlib
import re
from base64 import b32encode

from hypha_common.db import Shard
from hypha_common.errors import Conflict

__all__ = ["Identities", "candidates"]

# Fit for `ws-user-<id>`: no character that separates the parts of a service id or of an address, none that a name
# could be mistaken for an e-mail by.
_SAFE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._|-]{0,127}")
# Names of the cluster itself, of nobody, of local accounts, of ids made below, of programs with a token of somebody's.
_RESERVED = re.compile(r"root|public|system|hypha|admin|anonym.*|local-.*|oidc-.*|[a-z]+-[a-z]+-\d{8}", re.IGNORECASE)


class Identities:
    """Which user of this cluster somebody is at an issuer: rows of the home database, never changed once made."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def user_id(self, issuer: str, subject: str) -> str:
        """Return the user's id, given to (issuer, subject) for ever when it is first seen."""
        known = await self._find(issuer, subject)
        if known is not None:
            return known
        for candidate in candidates(issuer, subject):
            if await self._add(issuer, subject, candidate):
                return candidate
            known = await self._find(issuer, subject)  # another replica was faster
            if known is not None:
                return known
        raise Conflict("No user id is left for this identity")

    async def _find(self, issuer: str, subject: str) -> str | None:
        found: str | None = await self._home.fetchval(
            "SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2", issuer, subject
        )
        return found

    async def _add(self, issuer: str, subject: str, user_id: str) -> bool:
        added = await self._home.execute(
            """
            INSERT INTO identities (issuer, subject, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
            """,
            issuer,
            subject,
            user_id,
        )
        return added == 1


def candidates(issuer: str, subject: str) -> list[str]:
    """
    Return the ids that a user may have, the best first: the subject itself, else one derived of issuer and subject.

    Users are never joined by e-mail: who controls a mailbox at one issuer need not be who does at another.

    """
    digest = hashlib.sha256(f"{issuer}\n{subject}".encode()).digest()
    derived = f"oidc-{b32encode(digest)[:26].decode().lower()}"
    is_free = _SAFE.fullmatch(subject) is not None and _RESERVED.fullmatch(subject) is None
    return [subject, derived] if is_free else [derived]
