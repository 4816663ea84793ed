from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from .guard import for_server_only

__all__ = ["WorkerService"]

_FUNCTIONS = (
    "start",
    "stop",
    "get_logs",
    "compile",
    "execute",
    "list_sessions",
    "get_session_info",
    "prepare_workspace",
    "close_workspace",
    "shutdown",
)


class WorkerService:
    """A worker as a service: what it is called, what it offers, and how it comes to its server."""

    def __init__(self) -> None:
        self.instance_id = f"{type(self).__name__}-{random.randrange(10**8):08}"
        self.registered = False

    @property
    def supported_types(self) -> list[str]:
        """The types of apps that it runs."""
        raise NotImplementedError(f"{type(self).__name__} must say its supported_types")

    @property
    def name(self) -> str:
        return self.worker_name

    @property
    def description(self) -> str:
        return self.worker_description

    @property
    def worker_name(self) -> str:
        """The older word for :attr:`name`."""
        return type(self).__name__

    @property
    def worker_description(self) -> str:
        """The older word for :attr:`description`."""
        return (type(self).__doc__ or "").strip()

    @property
    def visibility(self) -> str:
        """``protected``: for apps of its own workspace; ``public``: for everybody's."""
        return "protected"

    @property
    def run_in_executor(self) -> bool:
        """Whether functions that are no coroutines run in threads."""
        return False

    @property
    def require_context(self) -> bool:
        """Whether its functions take ``context``: who called, which is the server."""
        return False

    @property
    def use_local_url(self) -> bool | str:
        """Whether sessions connect to the server's local address; text: to this one."""
        return False

    @property
    def service_id(self) -> str:
        """The id of its service; unique, so that several of a kind can share a connection."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return f"{slug or 'worker'}-{self.instance_id.rpartition('-')[2]}"

    async def register_worker_service(self, server: Any) -> Any:
        """Register the worker with a connection, and return what the server says of the service."""
        info = await server.register_service(self.get_worker_service())
        self.registered = True
        return info

    def get_worker_service(self) -> dict[str, Any]:
        """Return the service to register."""
        return self.service_of({name: getattr(self, name) for name in _FUNCTIONS})

    def service_of(self, functions: Mapping[str, Callable[..., Any]]) -> dict[str, Any]:
        """Return the service with exactly these functions; those of a public one serve the server alone."""
        is_public = self.visibility != "protected"
        served = {
            name: for_server_only(function, require_context=self.require_context) if is_public else function
            for name, function in functions.items()
        }
        return {
            "id": self.service_id,
            "name": self.name,
            "description": self.description,
            "type": "server-app-worker",
            "config": {
                "visibility": self.visibility,
                "run_in_executor": self.run_in_executor,
                "require_context": self.require_context or is_public,
                "supported_types": list(self.supported_types),  # what is known of it while it does not run
            },
            "supported_types": list(self.supported_types),
            "use_local_url": self.use_local_url,
            **served,
        }

    def get_service_config(self) -> dict[str, Any]:
        """The older word for :meth:`get_worker_service`."""
        return self.get_worker_service()
