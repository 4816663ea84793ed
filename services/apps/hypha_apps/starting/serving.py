from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["declared_type", "has_service", "name_of", "stands_in", "with_services"]

Info = Mapping[str, Any]


def name_of(info: Info) -> str:
    """Return the name in a full service id: ``svc`` of ``ws/client:svc@app``."""
    return str(info["id"]).rpartition(":")[2].partition("@")[0]


def has_service(services: Iterable[Info], wanted: str) -> bool:
    """Tell whether one of the services has exactly this name."""
    return any(name_of(info) == wanted for info in services)


def declared_type(manifest: Info, wanted: str) -> str | None:
    """Return the type of a service that a manifest declares; None where it does not."""
    services = manifest.get("services")
    for entry in services if isinstance(services, list) else ():
        if isinstance(entry, Mapping) and str(entry.get("id") or "").rpartition(":")[2].partition("@")[0] == wanted:
            return str(entry.get("type") or "")
    return None


def stands_in(services: Iterable[Info], wanted: str, manifest: Info) -> bool:
    """
    Tell whether a look-up of ``wanted`` finds one of the services (contract 03 §3.6).

    By its name, or where the manifest declares ``wanted`` by a name that begins with it, or by its type.

    """
    known = list(services)
    if has_service(known, wanted):
        return True
    kind = declared_type(manifest, wanted)
    if kind is None:
        return False
    return any(name_of(info).startswith(f"{wanted}-") or (kind and info.get("type") == kind) for info in known)


def with_services(record: Info, services: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a session record with what the instance serves; ``config`` is that of its ``default`` service."""
    default = next((info for info in services if name_of(info) == "default"), None)
    config = record.get("config") if default is None else default.get("config")
    return {**record, "services": services, "config": config or {}}
