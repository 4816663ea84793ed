from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypha_common.errors import DeadlineExceeded
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
    protected service serves. All raise RemoteError, PeerNotFound, DeadlineExceeded, Unavailable.

    """

    def __init__(self, host: RoleHost) -> None:
        self._host = host

    async def start(self, worker: Worker, config: dict[str, Any], *, timeout_s: float) -> None:
        """Start a session; what the worker returns says nothing."""
        await self.call(worker.service_id, "start", config, timeout_s=timeout_s + START_SLACK_S)

    async def stop(self, worker: Worker, session_id: str) -> None:
        """Stop a session."""
        await self.stop_at(worker.service_id, session_id)

    async def stop_at(self, worker_id: ServiceId, session_id: str) -> None:
        """Stop a session at a worker of which only the id is known."""
        await self.call(worker_id, "stop", session_id, timeout_s=_STOP_TIMEOUT_S)

    async def logs(self, worker: Worker, session_id: str, type: str | None = None) -> list[dict[str, Any]]:  # noqa: A002
        """
        Return the log entries of a session: ``{type, content}``, whatever form the worker answers in.

        With ``type`` all of that type are among them, and others may be.

        """
        named = worker.parameters("get_logs")  # by position they mean different things to different workers
        if "session_id" not in named:
            answer = await self.call(worker.service_id, "get_logs", session_id, timeout_s=_LOGS_TIMEOUT_S)
            return log_entries(answer)
        arguments = {"session_id": session_id}
        if type is not None and "type" in named:
            arguments["type"] = type
        answer = await self.call(worker.service_id, "get_logs", timeout_s=_LOGS_TIMEOUT_S, **arguments)
        return log_entries(answer, type=arguments.get("type"))

    async def call(self, worker_id: ServiceId, function: str, *args: Any, timeout_s: float, **kwargs: Any) -> Any:
        """
        Call any function of a worker, with positional or with named arguments, never both.

        ``timeout_s`` counts from the call on: a worker that is stuck, and says that it lives, is not waited for.

        """
        workspace = worker_id.workspace
        sender = await self._host.sender_in(workspace)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._host.peer.call(
                    Address(workspace, worker_id.client),
                    f"services.{worker_id.service}.{function}",
                    *args,
                    kwargs=kwargs or None,
                    sender=sender,
                    workspace=workspace,
                    timeout=timeout_s,
                )
        except TimeoutError:
            raise DeadlineExceeded(f"Worker {worker_id.full} did not finish {function} in {timeout_s:g} s") from None
