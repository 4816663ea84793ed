from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import HyphaError
from hypha_common.ids import ServiceId

if TYPE_CHECKING:
    from .app import App
    from .core import Core
    from .session import Session

__all__ = ["remember_services", "write_services"]

log = structlog.get_logger(__name__)

_NOT_OF_THE_APP = "built-in"


async def remember_services(core: Core, app: App, session: Session) -> None:
    """Do :func:`write_services` for an app that runs, whether or not that can be written down."""
    try:
        await write_services(core, app, session)
    except HyphaError as error:
        log.warning("services_not_remembered", session=session.id, app=app.id, error=str(error))


async def write_services(core: Core, app: App, session: Session) -> None:
    """
    Write into the manifest of an app what an instance of it serves, so that others can look that up and start it.

    Into that of the version, or of the draft, that was started (contract 03 §1.14 row 6). A draft is being tried: what
    it serves is all there is. Of a version that was tried before, a start may have seen the first services only.
    After a start that waited for nothing nobody knows what there is. Raises Unavailable, and what the artifacts service
    says of a manifest that cannot be.

    """
    if session.wait_for is None or app.type == "application":
        return
    seen = sorted(
        (_entry(info, session.workspace) for info in session.record.get("services") or ()),
        key=lambda entry: entry["id"],
    )
    services = [entry for entry in seen if _name(entry) != _NOT_OF_THE_APP]
    default = next((entry for entry in services if _name(entry) == "default"), {})
    if _says(app.manifest, services, default, whole=app.stage):
        return
    await core.store.ask(
        "app_services", app.workspace, app_id=app.id, version=app.version, stage=app.stage, services=services,
        whole=app.stage, name=default.get("name"), description=default.get("description"),
    )  # fmt: skip


def _entry(info: Mapping[str, Any], workspace: str) -> dict[str, Any]:
    """Return a service info as manifests list it: nothing in it is of one instance."""
    name = ServiceId.parse(info["id"], default_workspace=workspace).service
    config = {key: value for key, value in (info.get("config") or {}).items() if key != "created_by"}
    return {**info, "id": f"{workspace}/*:{name}", "config": config}


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("id")).rpartition(":")[2].partition("@")[0]


def _says(
    manifest: Mapping[str, Any], services: list[dict[str, Any]], default: Mapping[str, Any], *, whole: bool
) -> bool:
    """Tell whether a manifest says all of this already."""
    if any(not manifest.get(key) and default.get(key) for key in ("name", "description")):
        return False
    known = manifest.get("services")
    known = known if isinstance(known, list) else []
    return services == known if whole else all(entry in known for entry in services)
