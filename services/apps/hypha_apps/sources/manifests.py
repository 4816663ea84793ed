"""
Manifests of installed apps: what they may say, and what they say where nobody said it (contract 03 §1.8). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypha_apps.keeping.scaling import Scaling
from hypha_common.errors import BadRequest

__all__ = ["base_manifest", "complete_manifest", "refuse_services"]

UNTITLED = "Untitled App"

_TEXTS = (
    "name", "description", "version", "format_version", "id", "documentation", "license", "git_repo", "source", "icon",
    "docs", "entry_point", "api_version", "service_selection_mode", "source_hash",
)  # fmt: skip
_MAPS = ("config", "attachments", "startup_config", "startup_context", "autoscaling")
_LISTS = ("tags", "covers", "badges", "authors", "files", "links", "maintainers", "dependencies")
_SWITCHES = ("passive", "daemon", "singleton", "worker_managed", "disabled")
_OTHERS = ("requirements", "env", "services")  # may be of several kinds
_DEFAULTS: dict[str, Any] = {
    "type": "application",
    **dict.fromkeys((*_TEXTS, *_MAPS, *_LISTS, *_OTHERS)),
    "version": "0.1.0",
    "format_version": "0.2.1",
    "api_version": "0.1.0",
    "requirements": [],
    "dependencies": [],
    "service_ids": [],
    "passive": False,
    "daemon": False,
    "singleton": False,
    "worker_managed": False,
}


def base_manifest(given: object) -> dict[str, Any]:
    """Return a copy of the manifest that somebody passes, or that of an app without one. Raises BadRequest."""
    if given is None:
        return {"name": UNTITLED, "version": "0.1.0", "type": "hypha"}
    if not isinstance(given, Mapping):
        raise BadRequest(f"The manifest must be a map, not {type(given).__name__}")
    return dict(given)


def refuse_services(manifest: Mapping[str, Any]) -> None:
    """Raise BadRequest where an author says what an app serves: that is seen when it runs."""
    if "services" in manifest or "service_ids" in manifest:
        raise BadRequest("The 'services' and 'service_ids' fields are not allowed in the manifest of an app")


def complete_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with every field there is; unknown ones are kept. Raises BadRequest for malformed ones."""
    whole = {**_DEFAULTS, **manifest}
    for name, kind, what in (
        ("type", str, "a string"),
        *((name, str, "a string") for name in _TEXTS),
        *((name, Mapping, "a map") for name in _MAPS),
        *((name, list, "a list") for name in _LISTS),
        *((name, bool, "true or false") for name in _SWITCHES),
    ):
        value = whole.get(name)
        if value is not None and not isinstance(value, kind):
            raise BadRequest(f"Invalid manifest: '{name}' must be {what}, not {value!r:.80}")
    if whole["autoscaling"]:
        Scaling.of(whole["autoscaling"])
    return whole
