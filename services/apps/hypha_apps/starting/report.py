from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_common.errors import HyphaError

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.workers import Worker

__all__ = ["Report", "ask_about"]

_TIMEOUT_S = 3.0
_ENDED = frozenset({"completed", "failed", "stopped"})


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says about a session."""

    known: bool | None  # None: it does not say
    ended: str | None = None  # how, in words

    @property
    def is_over(self) -> bool:
        """Tell whether the worker says that it does not run it, or no longer."""
        return self.known is False or self.ended is not None


async def ask_about(core: Core, worker: Worker, session_id: str) -> Report:
    """Ask a worker whether it runs a session: by ``get_session_info``, which not all have, else by its logs."""
    if not worker.has("get_session_info"):
        return await _ask_for_logs(core, worker, session_id)
    try:
        info = await core.calls.call(worker.service_id, "get_session_info", session_id, timeout_s=_TIMEOUT_S)
    except HyphaError as error:
        return Report(_known(error))
    if not isinstance(info, dict) or str(info.get("status")) not in _ENDED:
        return Report(True)
    return Report(True, str(info.get("error") or f"it has {info['status']}"))


async def _ask_for_logs(core: Core, worker: Worker, session_id: str) -> Report:
    try:
        await core.calls.logs(worker, session_id)
    except HyphaError as error:
        return Report(_known(error))
    return Report(True)


def _known(error: HyphaError) -> bool | None:
    return False if error.status == 404 else None
