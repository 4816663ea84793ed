from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import structlog

__all__ = ["FaultLog", "note_fault"]

NAME = "hypha.faults"

_RATE = 20.0  # lines a second, for as long as it takes
_BURST = 200.0
_MAX_CHARACTERS = 300


class FaultLog:
    """
    Writes down what users were refused, one line each, so that the id they were given can be looked up.

    It is news about them, not about us: level INFO. Yet it is written at the default level, which is WARNING. Whoever
    provokes errors must not fill the disk: beyond a rate lines are dropped, and the next one tells how many.

    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left = _BURST
        self._at = now()
        self._dropped = 0
        self._log: Any = structlog.wrap_logger(
            logging.getLogger(NAME), wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)
        )

    def note(self, event: str, **details: Any) -> None:
        """Write one line. Details are cut; they must hold no secrets."""
        now = self._now()
        self._left = min(_BURST, self._left + (now - self._at) * _RATE)
        self._at = now
        if self._left < 1:
            self._dropped += 1
            return
        self._left -= 1
        shown = {name: value[:_MAX_CHARACTERS] if isinstance(value, str) else value for name, value in details.items()}
        if self._dropped:
            shown["lines_dropped"], self._dropped = self._dropped, 0
        self._log.info(event, **shown)


note_fault = FaultLog().note
