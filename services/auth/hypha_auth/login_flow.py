from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import structlog

from hypha_common.audit import Audit
from hypha_common.errors import HyphaError
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import TokenCodec
from hypha_common.version import __version__

from .handover import Handover, UnknownLogin
from .identity import Identity
from .login_request import LoginRequest, check_workspace
from .pages.layout import Layout, Response, reply
from .revoking import LOGIN_LIFE_S

__all__ = ["TOKEN_COOKIES", "LoginFlow", "Person", "problem_of"]

log = structlog.get_logger(__name__)

_VERSION_LIFE_S = 365 * 86400.0
# The second one is what local accounts of other hubs used; the gateway reads both.
TOKEN_COOKIES = ("access_token", "hypha_local_token")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who has just logged in, with the token for that."""

    identity: Identity
    token: str
    life_s: float = LOGIN_LIFE_S


class LoginFlow:
    """What happens once an identity provider knows who somebody is: the token, the program, the browser."""

    def __init__(self, *, handover: Handover, layout: Layout, codec: TokenCodec, audit: Audit) -> None:
        self.layout = layout
        self._handover = handover
        self._codec = codec
        self._audit = audit

    def token_of(self, identity: Identity, life_s: float = LOGIN_LIFE_S) -> str:
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
        self._audit.record("login", user=identity.user_id, workspace=request.workspace, program=bool(request.key))
        return person

    async def limited(self, person: Person, workspace: str) -> str:
        """Return a token of theirs that is limited to one workspace. Raises BadRequest, PermissionDenied, NotFound."""
        verified = self._codec.verify(person.token)
        return await self._handover.limited(person.token, verified, check_workspace(workspace), int(person.life_s))

    async def complete(self, request: LoginRequest, identity: Identity, *, remember: bool = True) -> Response:
        """
        Log a person in and answer the browser: what an identity provider does with whom it has found out.

        ``remember`` says that this very browser has asked for it; else somebody else's page may have sent the form,
        and the browser is not logged in as whoever that page likes.

        """
        try:
            person = await self.finish(request, identity)
        except UnknownLogin:
            return self.late(self.token_of(identity) if remember else "", LOGIN_LIFE_S)
        except HyphaError as error:
            return self.refuse(request, problem_of(error), status=error.status)
        return self.done(request, person.token if remember else "", person.life_s)

    def done(self, request: LoginRequest, token: str = "", life_s: float = 0) -> Response:
        """Answer a login that went well, and let the browser remember the person by ``token``, if there is one."""
        headers: dict[str, Any] = {"Set-Cookie": self.cookies(token, life_s)} if token else {}
        if self.layout.is_own_page(request.redirect):
            return reply(303, "", headers | {"Location": request.redirect})
        if not request.key:
            return reply(303, "", headers | {"Location": self.layout.path + _question(request)})
        script = _DONE.replace("$message", _as_script({"type": "hypha-login-complete", "key": request.key}))
        if not request.closes:
            script = script.replace("else window.close();", "")
        content = '<p role="status">You can close this window and go back to your program.</p>'
        return self.layout.page("You are logged in", content, script=script, framed=True, headers=headers)

    def late(self, token: str = "", life_s: float = 0) -> Response:
        """Answer somebody whose program does not wait any more; the browser is logged in all the same."""
        headers = {"Set-Cookie": self.cookies(token, life_s)} if token else {}
        told = "<p>This browser is logged in, so that the next time one click will do.</p>" if token else ""
        content = (
            '<p class="error" role="alert">The program that asked for this login does not wait any more. '
            f"Start the login again in your program.</p>\n{told}"
        )
        return self.layout.page("This login has ended", content, status=400, framed=True, headers=headers)

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
    if isinstance(error, UnknownLogin):
        return f"{error.message}. The login may have taken too long; start it again in your program."
    return error.message.replace("Invalid token provided to report_login", "This token is not accepted")


def _question(request: LoginRequest) -> str:
    query = request.query()
    return f"?{query}" if query else ""


def _as_script(value: Mapping[str, str]) -> str:
    # "<" is the one character that could end the script element early.
    return json.dumps(value).replace("<", "\\u003c")
