"""
What a manifest may say (contract 02 §1.3). Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypha_common.errors import BadRequest, NotSupported

from .documents import check_line, read_map
from .schemas import check_schema

__all__ = ["COLLECTION", "check_manifest", "read_manifest", "read_type"]

COLLECTION = "collection"
GENERIC = "generic"

_NO_MANIFEST = "Manifest must be provided."
_TEXTS = (
    "name", "id", "description", "documentation", "version", "format_version", "license", "git_repo", "source",
)  # fmt: skip
_LISTS = ("tags", "covers", "badges", "links", "maintainers")


def read_type(given: object) -> str:
    """Return the type of an artifact. Raises BadRequest, NotSupported."""
    kind = check_line(given, "Artifact type")
    if kind == "vector-collection":
        raise NotSupported("Vector collections are not supported by this server.")
    return kind


def read_manifest(given: object, kind: str | None) -> dict[str, Any]:
    """Return a manifest that fits an artifact of type ``kind``. Raises BadRequest, PayloadTooLarge."""
    if given is None:
        raise BadRequest(_NO_MANIFEST, rpc_type="ValueError" if kind in (GENERIC, COLLECTION) else "AssertionError")
    manifest = read_map(given, "Manifest")
    if not manifest:
        raise BadRequest(_NO_MANIFEST, rpc_type="AssertionError")
    check_manifest(manifest, kind)
    return manifest


def check_manifest(manifest: dict[str, Any], kind: str | None) -> None:
    """Raise BadRequest where a manifest does not fit an artifact of type ``kind``."""
    _check_services(manifest.get("services"))
    if kind not in (GENERIC, COLLECTION):
        return
    for key in _TEXTS:
        _check(manifest, key, lambda value: isinstance(value, str), "a string")
    for key in _LISTS:
        _check(manifest, key, lambda value: isinstance(value, list), "a list")
    _check(manifest, "authors", _are_authors, "a list of maps of strings")
    _check(manifest, "attachments", _are_attachments, "a map of lists")
    _check(manifest, "files", _are_maps, "a list of maps")
    _check(manifest, "config", lambda value: isinstance(value, dict), "a map")
    if kind == COLLECTION:
        _check(manifest, "collection", lambda value: isinstance(value, list), "a list")
        check_schema(manifest.get("collection_schema"))


def _check(manifest: dict[str, Any], key: str, fits: Callable[[Any], bool], wanted: str) -> None:
    value = manifest.get(key)
    if value is not None and not fits(value):
        raise BadRequest(f"Invalid manifest: '{key}' must be {wanted}, not {value!r:.80}")


def _check_services(services: object) -> None:
    if services is None:
        return
    if not _are_maps(services):
        raise BadRequest("Invalid manifest: 'services' must be a list of maps")
    for service in services:  # type: ignore[attr-defined]  # a list, see above
        if not isinstance(service.get("id"), str) or not service["id"]:
            raise BadRequest("Invalid manifest: each of 'services' must have an 'id'")
        for key in ("name", "type", "description"):
            if not isinstance(service.get(key), str | None):
                raise BadRequest(f"Invalid manifest: '{key}' of service '{service['id']:.80}' must be a string")
        if not isinstance(service.get("config"), dict | None):
            raise BadRequest(f"Invalid manifest: 'config' of service '{service['id']:.80}' must be a map")


def _are_maps(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _are_authors(value: Any) -> bool:
    return _are_maps(value) and all(isinstance(text, str | None) for item in value for text in item.values())


def _are_attachments(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, list) for item in value.values())
