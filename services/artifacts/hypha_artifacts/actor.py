from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_common.principal import Principal
from hypha_common.scopes import app_of

if TYPE_CHECKING:
    from hypha_common.rpc.caller import Caller

__all__ = ["Actor"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for something, and the workspace that is meant where only an alias is given."""

    principal: Principal
    workspace: str

    @classmethod
    def of(cls, caller: Caller) -> Actor:
        return cls(caller.principal, caller.workspace)

    @property
    def own_names(self) -> tuple[str, ...]:
        """
        The names under which permissions may be given to this actor: ids, and an e-mail address.

        An instance of an app has its own id only. It runs as somebody, but what it does is for whoever may change the
        app to say, and they are not to read what that person alone may read elsewhere.

        """
        principal = self.principal
        if app_of(principal.scope.extra_scopes) is not None:
            return (principal.id,)
        return tuple(name for name in (principal.id, principal.parent, principal.email) if name)

    @property
    def email(self) -> str | None:
        """The e-mail address at which things are addressed to this actor."""
        return self.principal.email if self.principal.email in self.own_names else None

    @property
    def effective_id(self) -> str:
        """The user behind a child token, else the user itself: who is recorded as creator."""
        return self.principal.parent or self.principal.id
