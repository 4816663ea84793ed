from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import structlog

from hypha_apps.background import Background
from hypha_common.errors import HyphaError

__all__ = ["Errands"]

log = structlog.get_logger(__name__)


class Errands:
    """What goes on after a round has decided it: at most ``at_once`` at the same time, none after the replica ends."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._background = Background()

    @property
    def free(self) -> int:
        """How many more may begin."""
        return max(0, self._at_once - len(self._background))

    def begin(self, work: Coroutine[Any, Any, None], **about: str) -> None:
        """Do it in the background; ``about`` is what a log says where it fails."""
        self._background.run(_safely(work, about))

    async def close(self) -> None:
        """Give up what is under way; another replica does it."""
        await self._background.close()


async def _safely(work: Coroutine[Any, Any, None], about: dict[str, str]) -> None:
    try:
        await work
    except HyphaError as error:
        log.warning("errand_failed", error=str(error), **about)
    except Exception:  # the edge of this task
        log.exception("errand_failed", **about)
