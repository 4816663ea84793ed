from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import structlog

from hypha_common.errors import HyphaError
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import TokenCodec
from hypha_common.version import __version__

from .handover import Handover
from .identity import Identity
from .login_request import LoginRequest, check_workspace
from .pages.layout import Layout, Response, reply

__all__ = ["TOKEN_COOKIES", "LoginFlow", "Person"]

log = structlog.get_logger(__name__)

LIFE_S = 86400.0  # of a person's token

_VERSION_LIFE_S = 365 * 86400.0
# The second one is what local accounts of other hubs used; the gateway reads both.
TOKEN_COOKIES = ("access_token", "hypha_local_token")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has just logged in, with the token for that."""

    identity: Identity
    token: str
    life_s: float = LIFE_S


class LoginFlow:
    """What happens once an identity provider knows who somebody is: the token, the program, the browser."""

    def __init__(self, *, handover: Handover, layout: Layout, codec: TokenCodec) -> None:
        self.layout = layout
        self._handover = handover
        self._codec = codec

    def token_of(self, identity: Identity, life_s: float = LIFE_S) -> str:
        """Return a person's own token: all that he or she may do, in no workspace in particular."""
        principal = Principal(
            id=identity.user_id,
            roles=identity.roles,
            email=identity.email if identity.email_verified else None,
            scope=Scope(workspaces={personal_workspace(identity.user_id): Permission.ADMIN}),
        )
        return self._codec.sign(principal, life_s=life_s, origins=filter(None, [identity.origin]))

    async def finish(self, request: LoginRequest, identity: Identity) -> Person:
        """
        Log a person in, and hand the program that asked its token.

        Raises what :meth:`Handover.finish` does, and BadRequest for a request that makes no sense.

        """
        person = Person(identity, self.token_of(identity))
        if request.key:
            await self._handover.finish(
                request.key, person.token, check_workspace(request.workspace), request.life_s, identity.claims()
            )
        log.info("logged_in", user=identity.user_id)
        return person

    async def complete(self, request: LoginRequest, identity: Identity) -> Response:
        """
        Log a person in and answer the browser: what an identity provider does with whom it has found out.

        The provider has made sure that this very browser asked for it.

        """
        try:
            person = await self.finish(request, identity)
        except HyphaError as error:
            return self.refuse(request, problem_of(error), status=error.status)
        return self.done(request, person.token, person.life_s)

    def done(self, request: LoginRequest, token: str, life_s: float, *, remember: bool = True) -> Response:
        """Answer a browser that is logged in now. ``remember`` false: somebody else may have sent the form."""
        headers: dict[str, Any] = {"Set-Cookie": self.cookies(token, life_s)} if remember else {}
        if self.layout.is_own_page(request.redirect):
            return reply(303, "", headers | {"Location": request.redirect})
        if not request.key:
            return reply(303, "", headers | {"Location": self.layout.path + _question(request)})
        script = _DONE.replace("$message", _as_script({"type": "hypha-login-complete", "key": request.key}))
        if not request.closes:
            script = script.replace("else window.close();", "")
        content = '<p role="status">You can close this window and go back to your program.</p>'
        return self.layout.page("You are logged in", content, script=script, framed=True, headers=headers)

    def refuse(self, request: LoginRequest, problem: str, *, status: int = 400) -> Response:
        """Answer a login that failed, with the way back to the login page."""
        content = (
            f'<p class="error" role="alert">{escape(problem)}</p>\n'
            f'<p><a class="button second" href="{escape(self.layout.path + _question(request))}">Try again</a></p>'
        )
        return self.layout.page("The login failed", content, status=status, framed=True)

    def cookies(self, token: str, life_s: float) -> list[str]:
        """Return the Set-Cookie lines of a browser that is logged in."""
        main, old = TOKEN_COOKIES
        cookie = self.layout.cookie
        return [cookie(main, token, life_s), cookie(old, "", 0), cookie("hypha_version", __version__, _VERSION_LIFE_S)]

    def no_cookies(self) -> list[str]:
        """Return the Set-Cookie lines that make a browser forget who it is."""
        return [self.layout.cookie(name, "", 0) for name in TOKEN_COOKIES]


_DONE = """const done = $message;
if (window.parent !== window) window.parent.postMessage(done, "*"); else window.close();"""


def problem_of(error: HyphaError) -> str:
    """Say to a person what went wrong: he or she knows a form, not the method behind it."""
    if error.rpc_type == "AssertionError" and "key" in error.message:
        return f"{error.message}. The login may have taken too long; start it again in your program."
    return error.message.replace("Invalid token provided to report_login", "This token is not accepted")


def _question(request: LoginRequest) -> str:
    query = request.query()
    return f"?{query}" if query else ""


def _as_script(value: Mapping[str, str]) -> str:
    # "<" is the one character that could end the script element early.
    return json.dumps(value).replace("<", "\\u003c")
