from __future__ import annotations

from hypha_gateway.addresses import origin_of, peer_address
from hypha_gateway.http.caller import token_of
from hypha_gateway.http.responses import Scope

__all__ = ["bearer", "remote", "stream_cookies"]

_COOKIE_PREFIX = "hypha-stream-"
_MAX_COOKIE = 64


def bearer(scope: Scope) -> str | None:
    """
    Return the token in ``Authorization``. Cookies of people who look at pages do not open streams.

    Raises Unauthorized where the header makes no sense.

    """
    return token_of((name, value) for name, value in scope["headers"] if name == b"authorization")


def stream_cookies(scope: Scope) -> dict[str, str]:
    """Return the cookies of streams that a request brings, by name."""
    crumbs = [crumb for name, value in scope["headers"] if name == b"cookie" for crumb in value.split(b";")]
    pairs = (crumb.decode("latin-1").strip().partition("=") for crumb in crumbs)
    return {name: value.strip('"')[:_MAX_COOKIE] for name, _, value in pairs if name.startswith(_COOKIE_PREFIX)}


def remote(scope: Scope) -> str:
    """Return the address of the client."""
    return peer_address(*origin_of(scope))
