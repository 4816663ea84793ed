from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from hypha_common.blocks import Block, BlockList
from hypha_common.errors import HyphaError
from hypha_common.security_feed import AuthSource

if TYPE_CHECKING:
    from hypha_common.bus import Bus

__all__ = ["BlockedUsers"]

log = structlog.get_logger(__name__)

_FRESH_S = 10.0
_RETRY_S = 1.0


class BlockedUsers:
    """
    The users whom an operator keeps out, for those who come with a key in place of a token.

    Asked for when it is needed and believed for 10 s. While nobody tells, what was told last holds.

    """

    def __init__(self, bus: Bus) -> None:
        self._source = AuthSource(bus)
        self._blocks = BlockList()
        self._ask_at = 0.0

    async def check(self, user_ids: Iterable[str]) -> None:
        """Raise Blocked if one of these users is."""
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + _RETRY_S  # whoever comes meanwhile does not ask, too
            try:
                policy = await self._source.policy()
                self._blocks.replace(Block.load(block) for block in policy["blocks"])
                self._ask_at = time.monotonic() + _FRESH_S
            except HyphaError as error:
                log.info("blocks_not_told", error=str(error))
        self._blocks.check(user_ids, "")
