"""
Who a new connection is and where it wants to be: steps 1 to 5 of contract 01 §1.4.

What needs the workspace itself (does it exist, who owns it, is the client already there) is decided afterwards by the
workspace service. The texts of refusals are part of the contract: clients show and match them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .errors import BadRequest, Blocked, HyphaError, NotFound, PermissionDenied, QuotaExceeded, Unauthorized
from .ids import PUBLIC_WORKSPACE, check_client_id, personal_workspace
from .names import readable_name
from .principal import Permission, Principal, Scope, authorize
from .scopes import is_specialized
from .tokens import EXPIRED, TokenKind, VerifiedToken
from .verifier import REVOKED

__all__ = [
    "Admission",
    "ConnectRequest",
    "Refusal",
    "admit",
    "anonymous_principal",
    "decide",
    "refusal",
]

ANONYMOUS_LIFE_S = 600.0
_MAX_WORKSPACE_BYTES = 255

CLOSE_REFUSED = 1001
CLOSE_POLICY = 1008


class Verify(Protocol):
    """Finds out what a token says; :meth:`hypha_common.verifier.Authenticator.verify`."""

    def __call__(self, token: str, kind: TokenKind) -> Awaitable[VerifiedToken]: ...


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """The first message of a connection. Empty texts count as absent."""

    client_id: object  # judged last, as the contract orders the refusals
    workspace: str | None = None
    token: str | None = None
    reconnection_token: str | None = None

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> ConnectRequest:
        """Read a decoded first message. Raises BadRequest where a field is no text."""
        fields: dict[str, str | None] = {}
        for name in ("workspace", "token", "reconnection_token"):
            value = message.get(name)
            if value is not None and not isinstance(value, str):
                raise BadRequest(f"{name} must be text")
            fields[name] = value or None
        return cls(client_id=message.get("client_id"), **fields)


@dataclass(frozen=True, slots=True)
class Admission:
    """A connection whose identity is settled."""

    principal: Principal
    workspace: str
    client_id: str
    reconnect: bool = False
    origins: tuple[str, ...] = ()  # ids of the tokens that brought it in; go into its reconnection tokens
    token_id: str = ""  # of the token presented now; empty: none
    generation: int | None = None  # of the connection it continues


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a connection is turned away: text of the ``error`` message and code of the close frame."""

    code: int
    reason: str


async def admit(request: ConnectRequest, verify: Verify) -> Admission:
    """
    Identify a connection by its reconnection token, else its token, else as a new anonymous user.

    Raises Unauthorized for bad tokens, PermissionDenied, NotFound or BadRequest for what may not be.

    """
    if request.reconnection_token is not None:
        try:
            verified = await verify(request.reconnection_token, TokenKind.RECONNECTION)
        except Unauthorized as error:
            # Away for longer than a reconnection token lives: the token is still good for a fresh start, and an
            # error would make the client give up for ever.
            if error.message != EXPIRED or request.token is None:
                raise
        else:
            return decide(request, verified, reconnect=True)
    if request.token is not None:
        return decide(request, await verify(request.token, TokenKind.ACCESS))
    return decide(request, None)


def decide(request: ConnectRequest, verified: VerifiedToken | None, *, reconnect: bool = False) -> Admission:
    """Settle workspace and client id of a request whose token was found good."""
    if verified is None:
        principal = anonymous_principal()
        workspace = request.workspace or personal_workspace(principal.id)
        return Admission(principal, _checked(workspace), _client_id(request, workspace))
    if is_specialized(verified.extra_scopes):
        raise _unauthenticated(
            f"Specialized token with scopes {list(verified.extra_scopes)} cannot be used for general workspace access. "
            "Use it only where one of these scopes is asked for."
        )
    workspace = _continued(request, verified) if reconnect else _requested(request, verified)
    return Admission(
        verified.principal,
        _checked(workspace),
        _client_id(request, workspace),
        reconnect=reconnect,
        origins=verified.lineage,
        token_id=verified.token_id,
        generation=verified.generation,
    )


def _continued(request: ConnectRequest, verified: VerifiedToken) -> str:
    workspace = verified.workspace or ""
    if request.client_id != verified.client_id:
        raise _unauthenticated("Client id mismatch, disconnecting")
    if request.workspace is not None and request.workspace != workspace:
        raise _unauthenticated(f"Invalid scope, workspace mismatch: {workspace} != {request.workspace}")
    authorize(verified.principal, Permission.READ, workspace)
    return workspace


def _requested(request: ConnectRequest, verified: VerifiedToken) -> str:
    if verified.client_id is not None and request.client_id != verified.client_id:
        raise _unauthenticated(
            f"Client id mismatch: this token is restricted to client with client_id='{verified.client_id}'"
        )
    own = verified.workspace or personal_workspace(verified.principal.id)
    if request.workspace is None or request.workspace == PUBLIC_WORKSPACE:
        return own
    if verified.workspace is not None and request.workspace != verified.workspace:
        raise _unauthenticated(
            f"Current workspace encoded in the token ({verified.workspace}) does not match the specified workspace"
            f" ({request.workspace})"
        )
    return request.workspace


def _checked(workspace: str) -> str:
    """Refuse names that no workspace has, before they become subjects and keys; ``*`` is where the manager lives."""
    size = len(workspace.encode("utf-8", "surrogatepass"))
    if size > _MAX_WORKSPACE_BYTES or not workspace.isprintable() or any(c in workspace for c in "/*:@"):
        shown = workspace if size <= 64 else workspace[:64] + "…"
        raise NotFound(f"Workspace {shown} does not exist or is not accessible")
    return workspace


def _client_id(request: ConnectRequest, workspace: str) -> str:
    if request.client_id is None or request.client_id == "":
        raise BadRequest(f"Failed to authenticate user to workspace: {workspace}")
    if not isinstance(request.client_id, str):
        raise BadRequest(f"Invalid client id: {request.client_id!r:.64}")
    return check_client_id(request.client_id)


def _unauthenticated(reason: str) -> PermissionDenied:
    return PermissionDenied(f"Failed to authenticate user: {reason}")


def anonymous_principal(*, now: Callable[[], float] = time.time) -> Principal:
    """Return a new user without a name or a token, at home in a workspace of its own (contract 01 §4.2)."""
    user_id = readable_name("anonymouz-")
    return Principal(
        id=user_id,
        roles=("anonymous",),
        is_anonymous=True,
        scope=Scope(workspaces={personal_workspace(user_id): Permission.ADMIN}),
        expires_at=now() + ANONYMOUS_LIFE_S,
    )


def refusal(error: HyphaError) -> Refusal:
    """Return how contract 01 §1.5 tells a client why it was not let in. Not for Unavailable: that is a 503."""
    if isinstance(error, QuotaExceeded | Blocked):
        return Refusal(CLOSE_POLICY, error.message)
    if isinstance(error, Unauthorized) and error.message != REVOKED:
        return Refusal(CLOSE_POLICY, f"Authentication error: {error.message}")
    reason = error.message
    if isinstance(error, Unauthorized):
        reason = f"Failed to authenticate user: {reason}"
    elif error.rpc_type == "KeyError":
        reason = repr(reason)  # as str(KeyError(…)) has it: clients match the quoted text
    return Refusal(CLOSE_REFUSED, f"Failed to establish connection: {reason}")
