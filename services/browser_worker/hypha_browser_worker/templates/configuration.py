from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["CONFIG_KEYS", "page_config"]

# What of an app's manifest its page learns (contract 03 §1.5).
CONFIG_KEYS = (
    "app_id",
    "defaults",
    "dependencies",
    "env",
    "flags",
    "format_version",
    "icon",
    "inputs",
    "name",
    "outputs",
    "required_artifact_files",
    "requirements",
    "source_hash",
    "tags",
    "type",
    "version",
)


def page_config(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``config`` of ``window.__HYPHA__``: what of a manifest the page of the app is told."""
    return {key: manifest[key] for key in CONFIG_KEYS if manifest.get(key) is not None}
