from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .queues.repository import Queues
from .registry.admission import Admission
from .registry.clients import Clients
from .registry.gateways import Gateways
from .registry.services import Services
from .workspaces.bookmarks import Bookmarks
from .workspaces.environment import Environment
from .workspaces.event_log import EventLog
from .workspaces.repository import Workspaces
from .workspaces.service_types import ServiceTypes

if TYPE_CHECKING:
    from hypha_common.db import Database
    from hypha_common.settings import Settings

__all__ = ["Stores"]


@dataclass(frozen=True, slots=True)
class Stores:
    """The repositories of the workspace service, built once."""

    database: Database
    admission: Admission
    gateways: Gateways
    clients: Clients
    services: Services
    workspaces: Workspaces
    environment: Environment
    bookmarks: Bookmarks
    service_types: ServiceTypes
    event_log: EventLog
    queues: Queues

    @classmethod
    def of(cls, database: Database, settings: Settings) -> Stores:
        return cls(
            database=database,
            admission=Admission(
                database,
                max_clients_per_workspace=settings.max_clients_per_workspace,
                max_connections_per_user=settings.max_connections_per_user,
            ),
            gateways=Gateways(database),
            clients=Clients(database),
            services=Services(database),
            workspaces=Workspaces(database),
            environment=Environment(database),
            bookmarks=Bookmarks(database),
            service_types=ServiceTypes(database),
            event_log=EventLog(database),
            queues=Queues(database),
        )
