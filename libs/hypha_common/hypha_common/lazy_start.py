from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .errors import DeadlineExceeded, NobodyServes
from .subjects import partition_of, role_verb

if TYPE_CHECKING:
    from .bus import Bus

__all__ = ["ensure_app"]

_ANSWER_TIMEOUT_S = 8.0  # the apps service answers within 5 s, with `starting` where it takes longer
_LOST_PAUSE_S = 0.2


async def ensure_app(bus: Bus, workspace: str, app_id: str, service: str, *, timeout_s: float = 65.0) -> bool:
    """
    Have the apps service start an installed app, unless it runs; returns when it does.

    The caller must be allowed to use ``service``: that is decided before anything is started. A replica of the apps
    service that dies meanwhile costs only time. False: this cluster runs no apps.

    Raises what the start raises, and DeadlineExceeded.

    """
    subject = role_verb("apps", partition_of(workspace), "ensure")
    message = {"workspace": workspace, "app_id": app_id, "service": service}
    deadline = asyncio.get_running_loop().time() + timeout_s
    while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            answer = await bus.request(subject, message, timeout=min(_ANSWER_TIMEOUT_S, left_s))
        except NobodyServes:
            return False
        except DeadlineExceeded:
            await asyncio.sleep(_LOST_PAUSE_S)
            continue
        if answer["state"] == "running":
            return True
    raise DeadlineExceeded(f"App '{app_id}' did not start in {timeout_s:.3g} s")
