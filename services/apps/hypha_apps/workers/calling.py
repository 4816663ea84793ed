from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.ids import Address

from .logs import log_entries

if TYPE_CHECKING:
    from hypha_common.ids import ServiceId
    from hypha_common.rpc.host import RoleHost

    from .worker import Worker

__all__ = ["WorkerCalls"]

START_SLACK_S = 5.0
_STOP_TIMEOUT_S = 15.0
_LOGS_TIMEOUT_S = 5.0


class WorkerCalls:
    """
    Calls of workers, so that old and new ones, in Python and JavaScript, all understand them (contract 03 §2.3).

    Arguments go by position only, without ``context``; the call comes from the worker's own workspace, which a
    protected service serves.

    """

    def __init__(self, host: RoleHost) -> None:
        self._host = host

    async def start(self, worker: Worker, config: dict[str, Any], *, timeout_s: float) -> None:
        """Start a session; what the worker returns says nothing. Raises RemoteError, PeerNotFound, DeadlineExceeded."""
        await self.call(worker.service_id, "start", config, timeout_s=timeout_s + START_SLACK_S)

    async def stop(self, worker: Worker, session_id: str) -> None:
        """Stop a session. Raises RemoteError, PeerNotFound, DeadlineExceeded."""
        await self.stop_at(worker.service_id, session_id)

    async def stop_at(self, worker_id: ServiceId, session_id: str) -> None:
        """Stop a session at a worker of which only the id is known."""
        await self.call(worker_id, "stop", session_id, timeout_s=_STOP_TIMEOUT_S)

    async def logs(self, worker: Worker, session_id: str) -> list[dict[str, Any]]:
        """Return all log entries of a session: ``{type, content}``, whatever form the worker answers in."""
        return log_entries(await self.call(worker.service_id, "get_logs", session_id, timeout_s=_LOGS_TIMEOUT_S))

    async def call(self, worker_id: ServiceId, function: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any:
        """Call any function of a worker, with positional or with named arguments, never both."""
        workspace = worker_id.workspace
        return await self._host.peer.call(
            Address(workspace, worker_id.client),
            f"services.{worker_id.service}.{function}",
            *args,
            kwargs=kwargs or None,
            sender=await self._host.sender_in(workspace),
            workspace=workspace,
            timeout=timeout_s,
        )
