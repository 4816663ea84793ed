from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_common.principal import Principal

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
    def effective_id(self) -> str:
        """The user behind a child token, else the user itself: who is recorded as creator."""
        return self.principal.parent or self.principal.id
