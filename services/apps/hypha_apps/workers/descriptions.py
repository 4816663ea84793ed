from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import HyphaError

from .worker import Worker

if TYPE_CHECKING:
    from hypha_common.rpc.host import RoleHost

    from .registrations import Registration

__all__ = ["Descriptions"]

log = structlog.get_logger(__name__)

_TIMEOUT_S = 5.0
_SILENT_S = 10.0  # one that did not answer is not asked again for so long
_MAX_KNOWN = 2000


@dataclass(frozen=True, slots=True)
class _Known:
    version: str
    worker: Worker | None  # None: it did not answer
    until: float  # loop time; a description holds as long as its registration


class Descriptions:
    """
    What workers say of themselves: each is asked once per registration, not at every start.

    Nothing here says that a worker lives: descriptions are looked up by registrations that stand now.

    """

    def __init__(self, host: RoleHost) -> None:
        self._host = host
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Worker | None]] = {}

    async def of(self, registration: Registration, *, again: bool = False) -> Worker | None:
        """Return what a worker says of itself; None where it does not answer, with ``again`` not even now."""
        key = registration.service_id.full
        known = self._known.get(key)
        if known is not None and known.version == registration.version and known.until > _now():
            self._known.move_to_end(key)
            if known.worker is not None or not again:
                return known.worker
        return await self._ask(registration)

    async def _ask(self, registration: Registration) -> Worker | None:
        """Ask it, once however many want to know."""
        asked = (registration.service_id.full, registration.version)
        task = self._asking.get(asked)
        if task is None:
            task = self._asking[asked] = asyncio.create_task(self._describe(registration))
            task.add_done_callback(lambda _: self._asking.pop(asked, None))
        return await asyncio.shield(task)

    async def _describe(self, registration: Registration) -> Worker | None:
        service_id = registration.service_id
        workspace = service_id.workspace
        worker = None
        try:
            async with asyncio.timeout(_TIMEOUT_S):  # heartbeats or not
                encoded = await self._host.peer.call(
                    f"{workspace}/{service_id.client}",
                    "services.built-in.get_service",
                    service_id.service,
                    sender=await self._host.sender_in(workspace),
                    workspace=workspace,
                    timeout=_TIMEOUT_S,
                    decode=False,
                )
            worker = Worker.of(service_id, encoded) if isinstance(encoded, dict) else None
        except (HyphaError, TimeoutError) as error:
            log.info("worker_does_not_answer", worker=service_id.full, error=str(error) or "timeout")
        until = float("inf") if worker is not None else _now() + _SILENT_S
        self._known[service_id.full] = _Known(registration.version, worker, until)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return worker


def _now() -> float:
    return asyncio.get_running_loop().time()
