from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypha_artifacts.blobs import check_path
from hypha_common.errors import BadRequest, NotFound

from .headers import safe_headers

if TYPE_CHECKING:
    from hypha_artifacts.record import Artifact
    from hypha_common.plans import Headers

__all__ = ["BUILT_IN", "ViewConfig"]

BUILT_IN = ("collection", "application")  # types that have a page without a site of their own
_MAX_TEMPLATES = 1000


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """How an artifact is shown as a site (contract 02 §3.5)."""

    root: str = ""  # a folder, normalized
    templates: frozenset[str] = frozenset()  # paths below it
    is_built_in: bool = False  # the first page is ours
    headers: Headers = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, artifact: Artifact) -> ViewConfig:
        """Read an artifact's config. Raises NotFound where it must not be viewed, BadRequest where it cannot be."""
        config = artifact.config.get("view_config")
        has_page = artifact.type in BUILT_IN
        if config == "disabled":
            raise NotFound("View access is disabled for this artifact")
        if not config:
            if not has_page:
                raise BadRequest("This artifact type does not support view mode")
            return cls(is_built_in=True)
        if not isinstance(config, dict):
            raise BadRequest("view_config must be a map, or the word disabled")
        if (engine := config.get("template_engine") or "jinja2") != "jinja2":
            raise BadRequest(f"Unsupported template engine: {engine}")
        is_built_in = config.get("use_builtin_template") is True
        if is_built_in and not has_page:
            raise BadRequest(f"There is no built-in template for artifacts of type {artifact.type}")
        templates = config.get("templates") or []
        if not isinstance(templates, list) or len(templates) > _MAX_TEMPLATES:
            raise BadRequest(f"view_config.templates must be a list of {_MAX_TEMPLATES} paths at most")
        metadata = config.get("metadata")
        root = config.get("root_directory") or artifact.config.get("root_directory") or ""
        return cls(
            check_path(root, folder=True),
            frozenset(check_path(path) for path in templates),
            is_built_in,
            safe_headers(config.get("headers")),
            metadata if isinstance(metadata, dict) else {},
        )

    def path_of(self, page: str) -> str:
        """Return the path in the artifact of a page of the site."""
        return f"{self.root}/{page}" if self.root else page
