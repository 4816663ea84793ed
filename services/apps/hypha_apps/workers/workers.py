from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hypha_common.errors import BadRequest, Conflict, NotFound
from hypha_common.ids import PUBLIC_WORKSPACE, ServiceId
from hypha_common.selection import read_mode

from .descriptions import Descriptions
from .disabled import DisabledWorkers
from .idle import IdleWorkers
from .loads import WorkerLoads
from .registrations import Registration, Registrations
from .selecting import select_worker

if TYPE_CHECKING:
    from hypha_apps.registry import Registry
    from hypha_common.bus import Bus
    from hypha_common.db import Database
    from hypha_common.rpc.host import RoleHost

    from .calling import WorkerCalls
    from .worker import Worker

__all__ = ["Workers", "worker_address"]


class Workers:
    """Finds workers: those of a workspace, else the cluster's own in ``public`` (contract 03 §2.7)."""

    def __init__(self, bus: Bus, host: RoleHost, registry: Registry, database: Database, calls: WorkerCalls) -> None:
        self._calls = calls
        self._registrations = Registrations(bus)
        self._descriptions = Descriptions(host)
        self._idle = IdleWorkers(bus, registry)
        self._loads = WorkerLoads(database)
        self.disabled = DisabledWorkers(database)

    async def choose(
        self, workspace: str, app_type: str, mode: str | None = None, *, worker_id: str | None = None, app_id: str = ""
    ) -> Worker:
        """
        Return a worker that runs an app of this type in a workspace.

        Args:
            workspace: where the app belongs
            app_type: its runtime type
            mode: how one of several is chosen: `random` (default), `first`, `last`, `exact`, `min_load`,
                `select:<min|max|first_success>:<function>`
            worker_id: the one that it must be, `client:service` or `workspace/client:service`
            app_id: the app, whose own instances are no workers for it

        Raises NotFound (WorkerNotFoundError), BadRequest (mode, id, type), Conflict (it is disabled).

        """
        if worker_id is not None:
            return await self._named(workspace, app_type, worker_id)
        how = read_mode(mode or "random", workspace=workspace)
        found = await self._found(workspace, app_type, app_id)
        if not found:
            raise NotFound(f"No server app worker found for app type: {app_type}", rpc_type="WorkerNotFoundError")
        return await select_worker(how, found, self._calls, self._loads, workspace=workspace)

    async def of(self, workspace: str) -> list[Worker]:
        """Return the workers of a workspace that answer, in order of registration."""
        return await self._described(await self._registrations.of(workspace))

    async def get(self, service_id: ServiceId) -> Worker:
        """Return a worker by its id, disabled or not. Raises NotFound where it does not answer."""
        registration = await self._registrations.get(service_id)
        worker = None if registration is None else await self._descriptions.of(registration)
        if worker is None:
            raise _not_available(service_id)
        return worker

    async def check_registered(self, service_id: ServiceId) -> None:
        """Raise NotFound unless there is a worker of this id, whether or not it answers."""
        if await self._registrations.get(service_id) is None:
            raise _not_available(service_id)

    async def _named(self, workspace: str, app_type: str, worker_id: str) -> Worker:
        wanted = worker_address(worker_id, workspace)
        registration = await self._registrations.get(wanted)
        if registration is None or not _is_for(registration, workspace):
            raise _not_available(wanted)
        if wanted.full in await self.disabled.of(workspace, wanted.workspace):
            raise Conflict(f"Worker {wanted.full} is disabled")
        worker = await self._descriptions.of(registration)
        if worker is None:
            raise _not_available(wanted)
        if app_type not in worker.supported_types:
            raise BadRequest(f"Worker {wanted.full} does not support app type: {app_type}")
        return worker

    async def _found(self, workspace: str, app_type: str, app_id: str) -> list[Worker]:
        """Return the workers to choose from: of the nearest place that has some."""
        others = [PUBLIC_WORKSPACE] if workspace != PUBLIC_WORKSPACE else []
        if found := await self._fitting(workspace, app_type, workspace, app_id):
            return found
        if found := await self._woken(workspace, app_type, app_id, sure=True):
            return found
        for place in others:
            if found := await self._fitting(place, app_type, workspace, app_id):
                return found
        if found := await self._woken(workspace, app_type, app_id, sure=False):
            return found
        for place in (workspace, *others):  # who did not answer a moment ago may do so now, and nobody else is there
            if found := await self._fitting(place, app_type, workspace, app_id, again=True):
                return found
        return []

    async def _fitting(
        self, place: str, app_type: str, workspace: str, app_id: str, *, again: bool = False
    ) -> list[Worker]:
        """Return the workers at ``place`` that may run an app of ``workspace``, and can."""
        registered = [one for one in await self._registrations.of(place) if (place, one.app_id) != (workspace, app_id)]
        if not registered:
            return []
        disabled = await self.disabled.of(workspace, place)
        enabled = [one for one in registered if one.service_id.full not in disabled]
        return [worker for worker in await self._described(enabled, again=again) if app_type in worker.supported_types]

    async def _woken(self, workspace: str, app_type: str, app_id: str, *, sure: bool) -> list[Worker]:
        """Start worker apps until there is a worker that fits."""
        async for _ in self._idle.started(workspace, app_type, app_id, sure=sure):
            if found := await self._fitting(workspace, app_type, workspace, app_id):
                return found
        return []

    async def _described(self, registrations: Iterable[Registration], *, again: bool = False) -> list[Worker]:
        described = await asyncio.gather(*(self._descriptions.of(one, again=again) for one in registrations))
        return [worker for worker in described if worker is not None]


def worker_address(worker_id: str, workspace: str) -> ServiceId:
    """Return the full id of a worker; ``client:service`` is of ``workspace``. Raises BadRequest."""
    if not isinstance(worker_id, str):
        raise BadRequest("worker_id must be text")
    wanted = ServiceId.parse(worker_id, default_workspace=workspace)
    if "*" in wanted.full or "?" in wanted.full or wanted.app != "*":
        raise BadRequest(f"Invalid worker id: {worker_id}. It must be 'workspace/client:service'")
    return wanted


def _is_for(registration: Registration, workspace: str) -> bool:
    place = registration.service_id.workspace
    return place in (workspace, PUBLIC_WORKSPACE) or registration.serves(workspace)


def _not_available(service_id: ServiceId) -> NotFound:
    return NotFound(f"Worker {service_id.full} is not available", rpc_type="WorkerNotFoundError")
