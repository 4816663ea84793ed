from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import DeadlineExceeded, NobodyServes, NotFound, Unavailable
from hypha_common.principal import root_principal
from hypha_common.subjects import partition_of, role_verb

from .conditions import is_glob

if TYPE_CHECKING:
    from hypha_common.bus import Bus

__all__ = ["Application", "Applications", "Instances", "ListedService"]

log = structlog.get_logger(__name__)

_FRESH_S = 2.0
_MAX_KNOWN = 4096
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Instances:
    """Which services stand for one that a manifest lists. Names are globs."""

    names: str = "*"
    type: str = "*"
    but: tuple[str, ...] = ()  # names that stand for another one
    without_app: bool = False  # those of clients that did not say to which application they belong


@dataclass(frozen=True, slots=True)
class ListedService:
    """What a manifest says of a service that decides about its use; None where it says nothing."""

    type: str | None = None
    visibility: object = None
    authorized_workspaces: object = None

    def is_open_to(self, workspace: str) -> bool:
        """Tell whether callers from ``workspace`` may use it who have no permission on the service's own."""
        if self.visibility in ("public", "unlisted"):
            return True
        return isinstance(self.authorized_workspaces, list) and workspace in self.authorized_workspaces


@dataclass(frozen=True, slots=True)
class Application:
    """What the manifest of an application says about its services."""

    services: Mapping[str, ListedService]
    selection_mode: object = None  # as in the manifest: whoever uses it checks it
    startable: bool = False  # by the apps service, for whoever looks a service of it up

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Application:
        services = {
            service["id"]: ListedService(service["type"], service["visibility"], service["authorized_workspaces"])
            for service in data["services"]
        }
        return cls(services, data["service_selection_mode"], data["startable"])

    def stand_ins(self, name: str) -> list[Instances]:
        """
        Return which services stand for a listed one where none has its very name, best first (contract 03 §3.6).

        Instances are called ``<name>-…``; else it is the type that tells. Nothing for a service that is not listed, or
        that has characters of a glob in its name: no service has.

        """
        if name not in self.services or is_glob(name):
            return []
        others = [other for other in self.services if other != name]
        longer = (other for other in others if other.startswith(f"{name}-"))
        found = [Instances(f"{name}-*", but=_with_instances(longer))]
        if (kind := self.services[name].type) and not is_glob(kind):
            found.append(Instances(type=kind, but=("built-in", *_with_instances(others))))
        return [*found, Instances(name, without_app=True)]


def _with_instances(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(pattern for name in names for pattern in (name, f"{name}-*"))


class Applications:
    """
    Asks the artifacts service what applications there are; an answer that says yes is believed for 2 s.

    Always as root: whoever may register services in a workspace may read every artifact in it, and who may use a
    service is for the service to say.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: dict[tuple[str, str], tuple[float, Application]] = {}

    async def find(self, workspace: str, app: str) -> Application | None:
        """Return an application, None where there is none. Raises Unavailable where nobody can say."""
        now = asyncio.get_running_loop().time()
        known = self._known.get((workspace, app))
        if known is not None and known[0] > now:
            return known[1]
        subject = role_verb("artifacts", partition_of(workspace), "application")
        message = {"workspace": workspace, "app_id": app, "user": root_principal().dump()}
        try:
            answer = await self._bus.request(subject, message, timeout=_TIMEOUT_S)
        except DeadlineExceeded as error:
            raise Unavailable(str(error)) from None
        if answer is None:
            return None
        found = Application.load(answer)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[workspace, app] = (now + _FRESH_S, found)
        return found

    async def listed(self, workspace: str, app: str | None = None) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """
        Yield what manifests say of services, each with its application: of all in a workspace, or of one.

        Nothing where there is no artifacts service. Raises Unavailable where nobody can say.

        """
        subject = role_verb("artifacts", partition_of(workspace), "applications")
        after: str | None = ""
        while after is not None:
            try:
                page = await self._bus.request(
                    subject, {"workspace": workspace, "app_id": app, "after": after}, timeout=_TIMEOUT_S
                )
            except NobodyServes:
                return
            except DeadlineExceeded as error:
                raise Unavailable(str(error)) from None
            for application in page["applications"]:
                for service in application["services"]:
                    yield application["id"], service
            after = page["next"]

    async def require(self, workspace: str, app: str) -> None:
        """
        Raise NotFound where there is no such application.

        Where nobody can say there may be one: without storage applications are only names, and services must be able
        to come back while the artifacts service restarts.

        """
        try:
            found = await self.find(workspace, app)
        except NobodyServes:
            return
        except Unavailable as error:
            log.warning("application_unchecked", workspace=workspace, app=app, error=str(error))
            return
        if found is None:
            raise NotFound(f"Application id `{app}` not found in workspace {workspace}")
