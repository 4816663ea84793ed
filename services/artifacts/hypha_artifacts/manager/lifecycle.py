"""
The lifecycle of artifacts: the methods of ``public/artifact-manager`` by which they come, change and go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lifecycle_commit import CommitMethods
from .lifecycle_create import CreateMethods
from .lifecycle_edit import EditMethods
from .lifecycle_read import ReadMethods

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

__all__ = ["lifecycle_methods"]


def lifecycle_methods(core: Core) -> list[object]:
    """Return the objects whose methods are those of the lifecycle."""
    return [CreateMethods(core), ReadMethods(core), EditMethods(core), CommitMethods(core)]
