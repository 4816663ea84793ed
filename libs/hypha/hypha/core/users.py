from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypha_common.errors import BadRequest
from hypha_common.principal import Permission, Principal

__all__ = ["ScopeInfo", "UserInfo", "create_scope"]


@dataclass
class ScopeInfo:
    """What a user may do: workspaces with ``r``, ``rw`` or ``a``, ``*`` for all of them."""

    workspaces: dict[str, str] = field(default_factory=dict)
    current_workspace: str | None = None
    client_id: str | None = None
    extra_scopes: list[str] | None = None


@dataclass
class UserInfo:
    """A user as custom authentication describes it, and as ``context["user"]`` shows it (contract 01 §4.1)."""

    id: str
    is_anonymous: bool = False
    email: str | None = None
    parent: str | None = None
    roles: list[str] = field(default_factory=list)
    scope: ScopeInfo | None = None
    expires_at: float | None = None  # Unix time, seconds
    current_workspace: str | None = None

    def __getitem__(self, name: str) -> Any:
        """Return a field: ``context["user"]`` is a map, and programs treat both alike."""
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return the user as a map; options are those of pydantic, and ignored."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, principal: Principal) -> UserInfo:
        values = principal.dump()
        return cls(**{**values, "scope": ScopeInfo(**values["scope"])})

    @staticmethod
    def dump_of(given: object) -> dict[str, Any]:
        """Return a map, a UserInfo, or what has ``model_dump()`` or these attributes, as a map. Raises BadRequest."""
        user = _plain(given, {one.name for one in dataclasses.fields(UserInfo)})
        if user.get("scope") is not None:
            user["scope"] = _plain(user["scope"], {one.name for one in dataclasses.fields(ScopeInfo)})
        if "id" not in user:
            raise BadRequest(f"A user must be a map or a UserInfo with an id, not {type(given).__name__}")
        return user


def create_scope(
    workspaces: str | Mapping[str, str] | None = None,
    current_workspace: str | None = None,
    client_id: str | None = None,
    extra_scopes: list[str] | None = None,
) -> ScopeInfo:
    """Return a scope; ``workspaces`` is a map, or text such as ``ws-a#rw,ws-b#r``. Raises BadRequest."""
    if isinstance(workspaces, str):
        pairs = [part.strip().rpartition("#") for part in workspaces.split(",") if part.strip()]
        workspaces = {name: permission for name, _, permission in pairs}
    grants = {name: Permission.from_wire(permission).wire for name, permission in (workspaces or {}).items()}
    return ScopeInfo(grants, current_workspace, client_id, extra_scopes)


def _plain(given: object, names: set[str]) -> dict[str, Any]:
    dump = getattr(given, "model_dump", None) or getattr(given, "dict", None)
    if isinstance(given, Mapping):
        values: Any = dict(given)
    elif dataclasses.is_dataclass(given) and not isinstance(given, type):
        values = dataclasses.asdict(given)
    elif callable(dump):
        values = dump()
    else:
        values = {name: getattr(given, name) for name in names if hasattr(given, name)}
    return {name: value for name, value in values.items() if name in names}
