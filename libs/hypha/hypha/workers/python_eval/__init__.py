"""
A worker for apps of type ``python-eval``: scripts that run in processes of their own, under limits.

``--startup-functions hypha.workers.python_eval:hypha_startup``, or ``python -m hypha.workers.python_eval`` where the
scripts shall run elsewhere. Whoever may start apps runs code there, with the rights of that process.
"""

from __future__ import annotations

from typing import Any

from .hiding import hide_process
from .limits import Limits
from .worker import PythonEvalWorker

__all__ = ["Limits", "PythonEvalWorker", "hypha_startup"]


async def hypha_startup(server: Any) -> None:
    """Run scripts beside the server, for every workspace."""
    hide_process()
    await PythonEvalWorker(server, service_id="python-eval-worker", use_local_url=True).initialize()
