"""Workers: clients that run apps. Which there are, how one is chosen, how they are called (contract 03 §2)."""

from __future__ import annotations

from .calling import WorkerCalls
from .worker import Worker
from .workers import Workers, worker_address

__all__ = ["Worker", "WorkerCalls", "Workers", "worker_address"]
