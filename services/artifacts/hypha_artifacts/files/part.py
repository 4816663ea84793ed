from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_artifacts.http.file_uploads import FileUploadRoutes
from hypha_artifacts.http.files import FileRoutes
from hypha_artifacts.manager.files import Files
from hypha_artifacts.manager.files_content import FileContent
from hypha_artifacts.manager.files_multipart import FileUploads

from .blob_rows import BlobRows
from .reader import FileReader
from .uploads import Uploads
from .writer import FileWriter

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.http.routes import HttpRoutes

__all__ = ["FilesPart"]


class FilesPart:
    """Files of artifacts: everything it is made of, and what it offers."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.blobs = BlobRows(core)
        self.reader = FileReader(core, self.blobs)
        self.writer = FileWriter(core, self.blobs)
        self.uploads = Uploads(core, self.blobs, self.writer)

    def services(self) -> tuple[object, ...]:
        """Return what has methods of the artifact manager."""
        return (
            Files(self.core, self.reader, self.writer),
            FileContent(self.core, self.reader, self.writer),
            FileUploads(self.core, self.uploads),
        )

    def add_routes(self, routes: HttpRoutes) -> None:
        """Add what answers HTTP requests."""
        files = FileRoutes(self.core, self.reader, self.writer)
        routes.add(files.handlers(), files.receivers())
        routes.add(FileUploadRoutes(self.core, self.uploads).handlers())
