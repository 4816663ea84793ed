"""
The lifecycle of artifacts: the methods of ``public/artifact-manager`` by which they come, change and go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lifecycle_commit import CommitMethods
from .lifecycle_counts import CountMethods
from .lifecycle_create import CreateMethods
from .lifecycle_delete import DeleteMethods
from .lifecycle_duplicate import DuplicateMethods
from .lifecycle_edit import EditMethods
from .lifecycle_parent import ParentMethods
from .lifecycle_read import ReadMethods
from .lifecycle_secrets import SecretMethods

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

__all__ = ["lifecycle_methods"]


def lifecycle_methods(core: Core) -> list[object]:
    """Return the objects whose methods are those of the lifecycle."""
    parts = (
        CreateMethods, ReadMethods, EditMethods, CommitMethods, DeleteMethods, DuplicateMethods, ParentMethods,
        SecretMethods, CountMethods,
    )  # fmt: skip
    return [part(core) for part in parts]
