from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal
from hypha_common.wire import pack, unpack

__all__ = ["Workspace", "auto_created", "owner_names"]

ROOT_USER = "root"
_ANONYMOUS_PREFIX = "ws-user-anonymouz-"


@dataclass(frozen=True, slots=True)
class Workspace:
    """
    A workspace record.

    Environment, bookmarks and service types are rows of their own, None here where they were not loaded.

    """

    id: str
    name: str = ""  # "": the id
    description: str | None = None
    persistent: bool = False
    owners: tuple[str, ...] = ()
    read_only: bool = False
    icon: str | None = None
    covers: Any = None
    docs: Any = None
    config: dict[str, Any] = field(default_factory=dict)  # without environs and bookmarks
    system: bool = False  # public, ws-user-root, ws-anonymous: never deleted
    created_by: str = ROOT_USER
    loaded: bool = True
    environs: dict[str, Any] | None = None
    bookmarks: list[dict[str, Any]] | None = None
    service_types: dict[str, dict[str, Any]] | None = None

    def dump(self) -> dict[str, Any]:
        """Return the WorkspaceInfo map (contract 01 §3.1)."""
        config = dict(self.config)
        if self.environs is not None:
            config["environs"] = self.environs
        if self.bookmarks is not None:
            config["bookmarks"] = self.bookmarks
        return {
            "type": "workspace",
            "id": self.id,
            "name": self.name or self.id,
            "description": self.description,
            "persistent": self.persistent,
            "owners": list(self.owners),
            "read_only": self.read_only,
            "icon": self.icon,
            "covers": self.covers,
            "docs": self.docs,
            "service_types": self.service_types or {},
            "config": config,
            "status": {"ready": True, "errors": None} if self.loaded else None,
        }

    def pack_extra(self) -> bytes:
        """Return what no query looks at as one value."""
        return pack({"icon": self.icon, "covers": self.covers, "docs": self.docs, "config": self.config})

    @classmethod
    def from_row(cls, row: Mapping[str, Any], **loaded: Any) -> Workspace:
        """Build a record from a row of ``workspaces`` with column ``loaded``."""
        extra = unpack(row["extra"]) if row["extra"] else {}
        return cls(
            id=row["id"],
            name=row["name"],
            description=row["description"],
            persistent=row["persistent"],
            owners=tuple(row["owners"]),
            read_only=row["read_only"],
            icon=extra.get("icon"),
            covers=extra.get("covers"),
            docs=extra.get("docs"),
            config=extra.get("config") or {},
            system=row["system"],
            created_by=row["created_by"],
            loaded=row["loaded"],
            **loaded,
        )


def owner_names(principal: Principal) -> list[str]:
    """
    Return the names under which a principal may own a workspace.

    A child token has none: it can do what its scope says, and not what its parent could (contract 01 §9 point 6).

    """
    if principal.parent is not None:
        return []
    return [name for name in (principal.id, principal.email) if name]


def auto_created(workspace: str, principal: Principal) -> Workspace | None:
    """
    Return the record to make when ``workspace`` is missing, or None where it must exist already.

    Made on demand are a user's own personal workspace and an anonymous one that the principal was given a token for
    (contract 01 §3.2).

    """
    if workspace == personal_workspace(principal.id):
        user, anonymous = principal.id, principal.is_anonymous
    elif workspace.startswith(_ANONYMOUS_PREFIX) and principal.permission(workspace) >= Permission.READ:
        user, anonymous = workspace.removeprefix("ws-user-"), True
    else:
        return None
    return Workspace(
        id=workspace,
        description=f"Workspace for user {user}",
        persistent=not anonymous,
        owners=tuple(dict.fromkeys((user, ROOT_USER))),
        read_only=anonymous,
        created_by=user,
    )
