from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from hypha_apps.background import Background

__all__ = ["Progress"]

log = structlog.get_logger(__name__)

_MAX_WAITING = 100  # of a callback that does not answer


class Progress:
    """
    Tells whoever wants to know how something goes on: ``{type, message}``, ``info|success|warning|error``.

    Nobody waits for it, and that it fails harms nothing.

    """

    def __init__(self, callback: Callable[..., Any] | None) -> None:
        self._callback = callback
        self._background = Background()
        self._waiting = 0

    @property
    def relay(self) -> Callable[[Any], None] | None:
        """What a worker is given to call; None where nobody wants to know."""
        return None if self._callback is None else self._relay

    def tell(self, message: str, *, kind: str = "info") -> None:
        self._send({"type": kind, "message": message})

    def _relay(self, message: Any) -> None:
        """Pass on what a worker says."""
        if isinstance(message, Mapping):
            self._send(dict(message))
        else:
            self.tell(str(message))

    def _send(self, message: dict[str, Any]) -> None:
        if self._callback is not None and self._waiting < _MAX_WAITING:
            self._waiting += 1
            self._background.run(self._call(self._callback, message))

    async def _call(self, callback: Callable[..., Any], message: dict[str, Any]) -> None:
        try:
            answer = callback(message)
            if inspect.isawaitable(answer):
                await answer
        except Exception as error:  # noqa: BLE001  # whatever a client's function does is its own affair
            log.info("progress_not_told", error=str(error))
        finally:
            self._waiting -= 1
