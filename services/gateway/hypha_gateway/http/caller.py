from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypha_common.custom_auth import GATEWAY_PART
from hypha_common.errors import HyphaError, NotFound, PermissionDenied, Unauthorized, Unavailable
from hypha_common.ids import ANONYMOUS_WORKSPACE, PUBLIC_WORKSPACE, Address, personal_workspace, role_of
from hypha_common.principal import Permission, Principal, Scope, authorize
from hypha_common.scopes import is_specialized
from hypha_common.subjects import partition_of, role_verb
from hypha_common.tokens import VerifiedToken
from hypha_gateway.enforcement import ROOT_USER, check_blocked

from .custom_token import custom_token
from .rate_limit import request_address
from .responses import Scope as HttpScope

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = [
    "ANONYMOUS",
    "Caller",
    "anonymous_caller",
    "caller_in",
    "caller_inside",
    "identify",
    "identify_at_once",
    "is_root",
    "known_to",
    "token_of",
    "verified_of",
    "without_token",
]

_BAD_CREDENTIALS = "Error decoding token headers."
_VERIFIED = "hypha.verified"  # key of the request scope: what the token of this request says

ANONYMOUS = Principal(
    id="anonymouz-http",
    roles=("anonymous",),
    is_anonymous=True,
    scope=Scope(workspaces={ANONYMOUS_WORKSPACE: Permission.READ}, current_workspace=ANONYMOUS_WORKSPACE),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, and the workspace that the request acts from."""

    principal: Principal
    workspace: str
    user: dict[str, Any]  # principal.dump(), made once


_ANONYMOUS_CALLER = Caller(ANONYMOUS, ANONYMOUS_WORKSPACE, ANONYMOUS.dump())


def token_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """
    Return the token of a request: the header ``X-Local-Auth``, else ``Authorization`` (Bearer, Basic with the token as
    password, or bare), else the cookie ``hypha_local_token``, else ``access_token``.

    What somebody has written into the request counts before what the browser adds by itself. Raises Unauthorized where
    a header makes no sense.

    """
    cookies: list[bytes] = []
    given = ""
    for name, value in headers:
        if name == b"authorization":
            given = given or _from_authorization(value)
        elif name == b"cookie":
            cookies.append(value)
        elif name == b"x-local-auth" and value.strip():
            return _text(value.strip())
    if given or not cookies:
        return given or None
    crumbs = dict(_crumbs(cookies))
    token = crumbs.get(b"hypha_local_token") or crumbs.get(b"access_token")
    return _text(token) if token else None


def _crumbs(cookies: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the cookies, the first of equal names last: that is the one which counts."""
    for cookie in reversed([crumb for header in cookies for crumb in header.split(b";")]):
        name, _, value = cookie.strip().partition(b"=")
        if value:
            yield name, value.strip(b'"')


def _from_authorization(value: bytes) -> str:
    scheme, _, rest = value.strip().partition(b" ")
    kind = scheme.lower()
    if kind == b"bearer":
        return _text(rest.strip())
    if kind == b"basic":
        try:
            decoded = base64.b64decode(rest.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise Unauthorized(_BAD_CREDENTIALS) from None
        return _text(decoded.partition(b":")[2])
    return _text(value.strip())


def _text(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise Unauthorized(_BAD_CREDENTIALS) from None


def anonymous_caller() -> Caller:
    """Return the caller of a request that has no token."""
    return _ANONYMOUS_CALLER


async def identify(
    state: GatewayState, scope: HttpScope, *, token: str | None = None, scopes: tuple[str, ...] = ()
) -> VerifiedToken | None:
    """
    Return what the token of a request says, or None where it has none. Decided once a request.

    A ``token`` that the request names elsewhere than usual counts before all others. ``scopes`` are the beginnings of
    extra scopes that the endpoint asks for. Raises Unauthorized for a bad token, PermissionDenied for one that serves
    other endpoints only.

    """
    if token is None and _VERIFIED in scope:
        known: VerifiedToken | None = scope[_VERIFIED]
        return known
    token = token or await _find_token(state, scope)
    if token is not None and not state.revocations_known.is_set():
        raise Unavailable("The server does not know yet which tokens are revoked, please retry")
    verified = None if token is None else await state.authenticator.verify(token)
    if verified is not None:
        check_blocked(state.blocks, verified.principal, "")  # of their address the edge has taken care
    if verified is not None and is_specialized(verified.extra_scopes) and not _serves(verified, scopes):
        names = list(verified.extra_scopes)
        raise PermissionDenied(f"Specialized token with scopes {names} cannot be used for general workspace access.")
    scope[_VERIFIED] = verified
    return verified


def _serves(verified: VerifiedToken, scopes: tuple[str, ...]) -> bool:
    return any(word.startswith(scopes) for word in verified.extra_scopes or ()) if scopes else False


async def _find_token(state: GatewayState, scope: HttpScope) -> str | None:
    """Return the token of a request: the one that custom authentication finds, else the one in the usual places."""
    custom = state.custom.current
    if custom is None or GATEWAY_PART not in custom.parts:
        return token_of(scope["headers"])
    try:
        return await custom_token(state, custom, scope) or token_of(scope["headers"])
    except Unavailable:
        # Whoever shows no usual token may have a custom one: that is not the same as having none.
        token = token_of(scope["headers"])
        if token is None:
            raise
        return token


def verified_of(scope: HttpScope) -> VerifiedToken | None:
    """Return what is known already of the token of a request."""
    verified: VerifiedToken | None = scope.get(_VERIFIED)
    return verified


async def is_root(state: GatewayState, scope: HttpScope) -> bool:
    """Tell whether a request bears root's token."""
    try:
        verified = await identify(state, scope)
    except HyphaError:
        return False
    return verified is not None and verified.principal.id == ROOT_USER


def identify_at_once(state: GatewayState, scope: HttpScope) -> VerifiedToken | None:
    """Return what a token of this cluster says, without asking anybody; None also for one that is no good."""
    if not state.revocations_known.is_set():
        return None
    try:
        token = token_of(scope["headers"])
        verified = None if token is None else state.verifier.verify(token)
    except HyphaError:
        return None  # refused, with its reason, where the request needs an identity
    if state.custom.has(GATEWAY_PART):
        return verified  # for counting; who it is, is found out where the request needs an identity
    if verified is None or not is_specialized(verified.extra_scopes):
        scope[_VERIFIED] = verified
    return verified


async def caller_in(
    state: GatewayState,
    scope: HttpScope,
    workspace: str,
    *,
    token: str | None = None,
    scopes: tuple[str, ...] = (),
) -> Caller:
    """
    Return the caller of a request whose URL names ``workspace`` (contract 01 §5.4 "whose context").

    A token bound to a workspace acts there, whatever the URL says; another one in the URL's workspace if it is
    ``public`` or readable, else in the user's own; nobody's token in ``ws-anonymous``. For ``token`` and ``scopes`` see
    :func:`identify`; whoever has a token for some endpoints only owns nothing by it.

    """
    verified = await identify(state, scope, token=token, scopes=scopes)
    if verified is None:
        return _ANONYMOUS_CALLER
    principal = verified.principal
    if verified.workspace is not None:
        return _acting_in(principal, verified.workspace)
    if workspace == PUBLIC_WORKSPACE or principal.permission(workspace) or is_specialized(verified.extra_scopes):
        return _acting_in(principal, workspace)
    return await _caller_by_ownership(state, principal, workspace)


async def caller_inside(state: GatewayState, scope: HttpScope, workspace: str) -> Caller:
    """Return the caller of an app: acts inside the app's workspace with no more rights than the token gives."""
    verified = await identify(state, scope)
    return _acting_in(ANONYMOUS if verified is None else verified.principal, workspace)


def known_to(provider: Address, caller: Caller, scope: HttpScope) -> Caller:
    """
    Return the caller as ``provider`` is to know it: the auth service is told the address, too, to slow down those who
    guess passwords. It stands in the user's map because nobody but a gateway writes that.

    """
    if role_of(provider.workspace, provider.client) != "auth":
        return caller
    return replace(caller, user={**caller.user, "client_address": request_address(scope)})


def without_token(scope: HttpScope) -> None:
    """Decide that a request has no token. For the page where a browser whose token is no good gets another one."""
    scope[_VERIFIED] = None


def _acting_in(principal: Principal, workspace: str) -> Caller:
    if principal.scope.current_workspace != workspace:
        principal = principal.with_scope(current_workspace=workspace)
    return Caller(principal, workspace, principal.dump())


async def _caller_by_ownership(state: GatewayState, principal: Principal, workspace: str) -> Caller:
    """An owner may have made the workspace after the token was issued, so the token's grants do not name it."""
    try:
        info = await workspace_info(state, principal.dump(), workspace)
    except PermissionDenied:
        return _acting_in(principal, personal_workspace(principal.id))
    except NotFound:
        raise NotFound(f"Workspace '{workspace}' not found") from None
    if principal.owns(workspace, info.get("owners") or []):
        grants = {**principal.scope.workspaces, workspace: Permission.ADMIN}
        principal = principal.with_scope(workspaces=grants)
    authorize(principal, Permission.READ, workspace)
    return _acting_in(principal, workspace)


async def workspace_info(state: GatewayState, user: dict[str, Any], workspace: str) -> dict[str, Any]:
    """Ask the workspace service for a workspace as ``user`` may see it. Raises NotFound or PermissionDenied."""
    subject = role_verb("workspace", partition_of(workspace), "info")
    info: dict[str, Any] = await state.bus.request(
        subject, {"workspace": workspace, "user": user}, timeout=1.3, attempts=2
    )
    return info
