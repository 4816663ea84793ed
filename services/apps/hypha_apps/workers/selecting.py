from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypha_common.errors import HyphaError, NotFound
from hypha_common.selection import Mode, best

if TYPE_CHECKING:
    from .calling import WorkerCalls
    from .loads import WorkerLoads
    from .worker import Worker

__all__ = ["select_worker"]

_ASK_TIMEOUT_S = 2.0
_MAX_ASKED = 50


async def select_worker(
    how: Mode, workers: Sequence[Worker], calls: WorkerCalls, loads: WorkerLoads, *, workspace: str
) -> Worker:
    """
    Choose one of several workers, in order of registration, for an app of ``workspace`` (contract 03 §2.7).

    Raises NotFound where exactly one is wanted and there are more.

    """
    if how.kind == "exact" and len(workers) > 1:
        shown = ", ".join(worker.id for worker in workers[:5])
        raise NotFound(
            f"Several workers can run this: {shown}. Name one by worker_id, or choose another worker_selection_mode",
            rpc_type="WorkerNotFoundError",
        )
    if how.kind in ("exact", "first"):
        return workers[0]
    if how.kind == "last":
        return workers[-1]
    if how.kind == "min_load" and len(workers) > 1:
        load = await loads.of(worker.address for worker in workers)
        least = min(load.values())
        return random.choice([worker for worker in workers if load[worker.address] == least])
    if how.kind == "select" and how.criteria is not None:
        asked = [worker for worker in workers if _may_ask(worker, how.function, workspace)][:_MAX_ASKED]
        answers = await asyncio.gather(*(_ask(calls, worker, how.function) for worker in asked))
        chosen = best([answer for answer in answers if answer is not None], how.criteria)
        return chosen or random.choice(workers)
    return random.choice(workers)


def _may_ask(worker: Worker, function: str, workspace: str) -> bool:
    """
    Tell whether a worker has the function, and it may be called for somebody of ``workspace``.

    The server is served where users are not: in its name nobody shall call `shutdown` of a worker that is not theirs.

    """
    own = worker.service_id.workspace == workspace
    return worker.has(function) and (own or function.rpartition(".")[2].startswith("get_"))


async def _ask(calls: WorkerCalls, worker: Worker, function: str) -> tuple[Worker, Any] | None:
    """Return the worker with its answer; None: it gave none."""
    try:
        return worker, await calls.call(worker.service_id, function, timeout_s=_ASK_TIMEOUT_S)
    except HyphaError:
        return None
