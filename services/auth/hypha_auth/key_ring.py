from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from hypha_common.errors import HyphaError, Unavailable
from hypha_common.keys import PublicKeys

from .key_making import PrivateKey, Sealer, make_key
from .key_repository import KeyRow, KeyRows

__all__ = ["KeyRing"]

log = structlog.get_logger(__name__)

# How far beyond the token at hand a key's last expiry is written down: so that it is written once a day, not once a
# token.
_MARGIN_S = 86400.0
_RETRY_S = 1.0


class KeyRing:
    """
    The keys that this replica signs and verifies with, as the database has them.

    Signing never waits for the database: that a key has signed a token which outlives all before is written down
    behind it.

    """

    def __init__(self, rows: KeyRows, sealer: Sealer, public: PublicKeys) -> None:
        self._rows = rows
        self._sealer = sealer
        self._public = public
        self._signing: PrivateKey | None = None
        self._last_expiry: dict[str, float] = {}  # key id -> what is, or is about to be, written down
        self._unwritten: dict[str, float] = {}
        self._writing: asyncio.Task[None] | None = None
        self._refreshed = float("-inf")
        # One at a time: an answer that was on its way while keys changed must not come after the newer one.
        self._refreshing = asyncio.Lock()

    async def start(self) -> None:
        """Read the ring; where nothing in it can sign, make a key. Raises Unavailable, DeadlineExceeded."""
        rows = await self._rows.all()
        current = next((row for row in rows if row.retired_at is None), None)
        if current is None:
            await self._rows.add_first(make_key(self._sealer))
        elif self._sealer.open(current) is None:
            # Sealed with a secret that is gone. Its tokens stay good: for that the public key is enough.
            log.warning("signing_key_not_opened", key_id=current.id, reason="jwt_secret has changed")
            await self._rows.rotate(make_key(self._sealer), retiring=current.id)
        await self.refresh()
        if self._signing is None:
            raise Unavailable("Another replica has just made a signing key with another jwt_secret")

    async def close(self) -> None:
        """Write down what is not written yet, as far as that works at once."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        try:
            await self._write()
        except HyphaError as error:
            log.warning("key_expiry_not_written", error=str(error))

    def key_for(self, expires_at: float) -> PrivateKey:
        """Return the key that signs a token which expires then. Raises Unavailable before :meth:`start`."""
        key = self._signing
        if key is None:
            raise Unavailable("There is no signing key yet")
        if expires_at > self._last_expiry.get(key.id, 0.0):
            self._last_expiry[key.id] = self._unwritten[key.id] = expires_at + _MARGIN_S
            if self._writing is None or self._writing.done():
                self._writing = asyncio.get_running_loop().create_task(self._keep_writing(), name="key-expiry")
        return key

    async def refresh(self) -> list[dict[str, Any]]:
        """Take over what the database has, and return the public keys. Raises Unavailable, DeadlineExceeded."""
        async with self._refreshing:
            await self._read()
        return self._public.jwks

    async def refresh_for_unknown(self) -> None:
        """
        Look whether there are new keys, after whoever asks met one; at most once a second, as anybody can name a key.

        Whoever comes sooner waits for that: a refusal would be final for a client.

        """
        asked = time.monotonic()
        await asyncio.sleep(max(0.0, self._refreshed + _RETRY_S - asked))
        async with self._refreshing:
            if self._refreshed < asked:
                await self._read()

    async def _read(self) -> None:
        began = time.monotonic()
        self._take(await self._rows.all())
        self._refreshed = began

    def _take(self, rows: list[KeyRow]) -> None:
        self._public.replace([row.public_key for row in rows])
        for row in rows:
            self._last_expiry[row.id] = max(row.last_expiry, self._last_expiry.get(row.id, 0.0))
        known = {row.id for row in rows}
        self._last_expiry = {key_id: expiry for key_id, expiry in self._last_expiry.items() if key_id in known}
        current = next((row for row in rows if row.retired_at is None), None)
        if self._signing is not None and current is not None and self._signing.id == current.id:
            return
        opened = None if current is None else self._sealer.open(current)
        if opened is not None:
            self._signing = opened
        elif self._signing is not None and self._signing.id not in known:
            self._signing = None  # dropped: better no token than one that nobody accepts
            log.error("no_signing_key", reason="the key in use was dropped and its successor cannot be opened here")

    async def _keep_writing(self) -> None:
        while self._unwritten:
            try:
                await self._write()
            except HyphaError as error:
                log.warning("key_expiry_not_written", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _write(self) -> None:
        for key_id, expiry in list(self._unwritten.items()):
            await self._rows.extend(key_id, expiry)
            if self._unwritten.get(key_id) == expiry:
                del self._unwritten[key_id]
