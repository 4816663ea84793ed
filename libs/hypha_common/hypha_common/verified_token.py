from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .errors import BadRequest, Unauthorized
from .principal import Principal
from .revocation import key_mark

__all__ = ["TokenKind", "VerifiedToken"]


class TokenKind(StrEnum):
    """What a token is for. One kind is never accepted in place of another."""

    ACCESS = "access"
    RECONNECTION = "reconnection"
    # Signed with the same secret by somebody who does not say: access, or reconnection where it names wid and cid.
    UNTYPED = "untyped"


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token says, after its signature, issuer, audience and expiry were found good."""

    principal: Principal
    workspace: str | None  # wid: the only workspace it may be used in
    client_id: str | None  # cid: the only client that may present it
    extra_scopes: tuple[str, ...]
    expires_at: float | None  # None only for the root token
    token_id: str  # what a revocation names
    kind: TokenKind
    generation: int | None = None  # of the connection that a reconnection token was made for
    origins: tuple[str, ...] = ()  # ids of the tokens that this one descends from; revoking one revokes this
    key_id: str = ""  # of the key of the cluster's ring that signed it; empty: the shared secret

    @property
    def revocable(self) -> tuple[str, ...]:
        """The ids of which none may be revoked: its own, those it descends from, the mark of its key."""
        own = (self.token_id, *self.origins)
        return (*own, key_mark(self.key_id)) if self.key_id else own

    @property
    def lineage(self) -> tuple[str, ...]:
        """
        The ``origins`` of what is made from this token.

        A reconnection token is only one link between its origins and its successor: it leaves no trace, or the list
        would grow with every reconnection.

        """
        ids = self.revocable[1:] if self.kind is TokenKind.RECONNECTION else self.revocable
        return tuple(dict.fromkeys(ids))

    def require(self, kind: TokenKind) -> VerifiedToken:
        """Return self if it may serve as ``kind``, or raise Unauthorized."""
        if self.kind is kind:
            return self
        bound = self.workspace is not None and self.client_id is not None
        if self.kind is TokenKind.UNTYPED and (kind is TokenKind.ACCESS or bound):
            return self
        raise Unauthorized(f"Invalid token type: {self.kind} token where {kind} token is needed")

    def dump(self) -> dict[str, Any]:
        return {
            "user": self.principal.dump(),
            "workspace": self.workspace,
            "client_id": self.client_id,
            "extra_scopes": list(self.extra_scopes),
            "expires_at": self.expires_at,
            "token_id": self.token_id,
            "kind": str(self.kind),
            "generation": self.generation,
            "origins": list(self.origins),
            "key_id": self.key_id,
        }

    @classmethod
    def load(cls, data: dict[str, Any]) -> VerifiedToken:
        """Rebuild what :meth:`dump` wrote. Raises BadRequest."""
        try:
            return cls(
                principal=Principal.load(data["user"]),
                workspace=data["workspace"],
                client_id=data["client_id"],
                extra_scopes=tuple(data["extra_scopes"]),
                expires_at=data["expires_at"],
                token_id=data["token_id"],
                kind=TokenKind(data["kind"]),
                generation=data["generation"],
                origins=tuple(data["origins"]),
                key_id=data["key_id"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadRequest(f"Invalid token information: {error!r}") from None
