from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from hypha_common.principal import Permission, authorize
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

__all__ = ["ValidateMethods", "validation"]

_TYPES = ("window", "web-worker", "web-python", "mcp-server", "a2a-agent")
_MCP_TYPES = ("streamable-http", "stdio")
_ENTRY_POINTS = (".html", ".js", ".py")


class ValidateMethods:
    """Tells what is wrong with a manifest before anything is installed (contract 03 §1.12)."""

    @rpc_method
    async def validate_app_manifest(self, manifest: dict[str, Any], *, context: Caller) -> dict[str, Any]:
        """
        Return `{valid, errors, warnings, suggestions}` for the manifest of an app.

        Args:
            manifest: The manifest.

        """
        authorize(context.principal, Permission.READ, context.workspace)
        return validation(manifest)

    @rpc_method
    async def validate_app_config(self, config: dict[str, Any], *, context: Caller) -> dict[str, Any]:
        """
        Return `{valid, errors, warnings, suggestions}` for the manifest of an app.

        Args:
            config: The manifest.

        """
        return await self.validate_app_manifest(config, context=context)


def validation(manifest: object) -> dict[str, Any]:
    """Return what is wrong with a manifest, what is doubtful, and what could be better."""
    if not isinstance(manifest, Mapping):
        return {"valid": False, "errors": ["The manifest must be a map"], "warnings": [], "suggestions": []}
    errors = [*_basic_errors(manifest), *_server_errors(manifest)]
    return {
        "valid": not errors,
        "errors": errors,
        "warnings": list(_warnings(manifest)),
        "suggestions": [
            f"Consider adding {what}" for key, what in (("description", "a description"), ("tags", "tags"))
            if not manifest.get(key)
        ],
    }  # fmt: skip


def _basic_errors(manifest: Mapping[str, Any]) -> Iterator[str]:
    for key in ("name", "type", "version"):
        if not manifest.get(key):
            yield f"Missing required field: {key}"
        elif not isinstance(manifest[key], str):
            yield f"Field '{key}' must be a string"


def _server_errors(manifest: Mapping[str, Any]) -> Iterator[str]:
    kind = manifest.get("type")
    if kind == "mcp-server":
        yield from _entry_errors(manifest, "mcpServers", ("type", "url"))
    elif kind == "a2a-agent":
        yield from _entry_errors(manifest, "a2aAgents", ("url",))


def _entry_errors(manifest: Mapping[str, Any], key: str, needed: tuple[str, ...]) -> Iterator[str]:
    entries = manifest.get(key)
    if not isinstance(entries, Mapping) or not entries:
        yield f"Type '{manifest['type']}' requires '{key}' to be a map that is not empty"
        return
    for name, entry in entries.items():
        if not isinstance(entry, Mapping):
            yield f"'{name}' in '{key}' must be a map"
            continue
        for field in needed:
            if not isinstance(entry.get(field), str) or not entry[field]:
                yield f"'{name}' in '{key}' is missing '{field}'"
        if key == "a2aAgents" and not isinstance(entry.get("headers", {}), Mapping):
            yield f"'headers' of '{name}' in '{key}' must be a map"


def _warnings(manifest: Mapping[str, Any]) -> Iterator[str]:
    kind = manifest.get("type")
    if kind and kind not in _TYPES:
        yield f"Type '{kind}' is not one of {', '.join(_TYPES)}: there must be a worker for it"
    for name, entry in _entries(manifest, "mcpServers"):
        if entry.get("type") and entry["type"] not in _MCP_TYPES:
            yield f"Type '{entry['type']}' of '{name}' in 'mcpServers' is not one of {', '.join(_MCP_TYPES)}"
    for name, entry in _entries(manifest, "a2aAgents"):
        if entry.get("url") and not _is_http(entry["url"]):
            yield f"The url of '{name}' in 'a2aAgents' is no http address"
    entry_point = manifest.get("entry_point")
    if entry_point and not str(entry_point).endswith(_ENTRY_POINTS):
        yield f"Entry point '{entry_point!s:.80}' does not end with {', '.join(_ENTRY_POINTS)}"


def _entries(manifest: Mapping[str, Any], key: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    entries = manifest.get(key)
    if isinstance(entries, Mapping):
        yield from ((name, entry) for name, entry in entries.items() if isinstance(entry, Mapping))


def _is_http(url: object) -> bool:
    try:
        return isinstance(url, str) and urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False
