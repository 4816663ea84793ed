from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_artifacts.files import BlobRows
from hypha_artifacts.http.workspace_files import WorkspaceFileRoutes
from hypha_artifacts.s3.credentials import CredentialRows
from hypha_artifacts.s3.front import S3Front
from hypha_common.rpc.service import Service

from .expiry import Expiry
from .objects import WorkspaceObjects
from .rights import Rights
from .service import S3Storage
from .uploads import Uploads

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.http.routes import HttpRoutes

__all__ = ["WorkspaceFiles"]


class WorkspaceFiles:
    """The files of workspaces over RPC, HTTP and the S3 API, and all addresses of our own ``/s3``."""

    def __init__(self, core: Core) -> None:
        rights = Rights(core.settings, core.workspaces)
        credentials = CredentialRows(core.database)
        objects = WorkspaceObjects(core)
        uploads = Uploads(core.database, objects)
        self.expiry = Expiry(core, objects, uploads, credentials)
        self.front = S3Front(core, rights, objects, uploads, credentials, BlobRows(core))
        self._storage = S3Storage(core, rights, objects, uploads, credentials)
        self._routes = WorkspaceFileRoutes(core, rights, objects, uploads)

    def service(self) -> Service:
        return Service.of(
            "s3-storage",
            self._storage,
            name="S3 Storage Service",
            description="Files of workspaces.",
            visibility="public",
            config={"require_context": True},
        )

    def add_to(self, routes: HttpRoutes) -> None:
        routes.add(self.front.handlers(), self.front.receivers())
        routes.add(self._routes.handlers(), self._routes.receivers())
