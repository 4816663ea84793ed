from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.listing.finder import Finder
from hypha_artifacts.listing.options import Options
from hypha_artifacts.manager.lifecycle_read import read_artifact
from hypha_artifacts.manager.readings import Readings
from hypha_artifacts.reference import ArtifactName
from hypha_common.errors import NotFound, PermissionDenied
from hypha_common.plans import HttpCall, Reply
from hypha_common.principal import Principal

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

    from .routes import Handler

__all__ = ["Metadata"]

_ARGUMENTS = ("keywords", "filters", "mode", "offset", "limit", "order_by", "pagination", "stage")


class Metadata:
    """The routes that answer with artifacts, not with their files (contract 02 §3.1)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._finder = Finder(core)
        self._readings = Readings(core.rows)

    def handlers(self) -> dict[str, Handler]:
        return {
            "artifacts": self.roots,
            "artifact": self.artifact,
            "artifact_children": self.children,
            "artifact_search": self.search,
        }

    async def roots(self, call: HttpCall) -> Reply:
        with _told("Artifact not found"):
            found = await self._finder.find(
                _actor(call), _options(call), workspace=call.params["workspace"], roots_only=True
            )
        return _reply(call, found)

    async def search(self, call: HttpCall) -> Reply:
        with _told("Artifact not found"):
            found = await self._finder.find(_actor(call), _options(call), workspace=call.params["workspace"])
        return _reply(call, found)

    async def children(self, call: HttpCall) -> Reply:
        with _told("Parent artifact not found"):
            parent_id = str(_name(call))
            found = await self._finder.find(
                _actor(call), _options(call), parent_id=parent_id, counts=not _is_silent(call)
            )
        return _reply(call, found)

    async def artifact(self, call: HttpCall) -> Reply:
        version = call.first("version") or None
        with _told("Artifact not found"):
            found = await read_artifact(
                self._core, self._readings, str(_name(call)), _actor(call), version=version, silent=_is_silent(call)
            )
        return _reply(call, found)


@contextmanager
def _told(missing: str) -> Iterator[None]:
    try:
        yield
    except NotFound:
        raise NotFound(missing) from None
    except PermissionDenied:
        raise PermissionDenied("Permission denied") from None


def _name(call: HttpCall) -> ArtifactName:
    return ArtifactName(call.params["workspace"], call.params["alias"])


def _actor(call: HttpCall) -> Actor:
    return Actor(Principal.load(call.user), call.workspace)


def _is_silent(call: HttpCall) -> bool:
    return bool(as_switch("silent", call.first("silent")))


def _options(call: HttpCall) -> Options:
    given = {name: value for name in _ARGUMENTS if (value := call.first(name))}
    return Options.of(**given)


def _reply(call: HttpCall, found: Any) -> Reply:
    """Answer with JSON; who has it already is told so. Nobody keeps it for others: they may see something else."""
    body = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    etag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = [("etag", etag), ("cache-control", "private, no-cache"), ("vary", "Authorization, Cookie")]
    known = [tag.strip().removeprefix("W/") for tag in call.headers.get("if-none-match", "").split(",")]
    if etag.removeprefix("W/") in known or known == ["*"]:
        return Reply(304, headers)
    return Reply(200, [("content-type", "application/json"), *headers], body)
