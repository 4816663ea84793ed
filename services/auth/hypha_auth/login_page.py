from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hypha_common.errors import BadRequest, HyphaError

from .issuing import DEFAULT_LIFE_S, life_of

__all__ = ["LoginPage", "Response"]

Response = dict[str, Any]
Finish = Callable[[str, str, str | None, int | None, Mapping[str, Any]], Awaitable[str]]

_MAX_FORM_BYTES = 64 * 1024
_FIELDS = ("key", "workspace", "expires_in", "redirect")
_TEMPLATE = Template(Path(__file__).with_name("login_page.html").read_text())

_FORM = Template(
    """$problem<form method="post" action="./">
$hidden<label for="token">Your token</label>
<textarea id="token" name="token" required autofocus autocomplete="off" spellcheck="false"
 aria-describedby="token-note"$invalid></textarea>
<p class="note" id="token-note">$note</p>
<button type="submit">Log in</button>
</form>"""
)
_NOTE = "No identity provider is set up on this server. Paste a token that was generated for you, or the root token."
_DONE_SCRIPT = Template(
    """<script nonce="$nonce">
const done = $message;
if (window.parent !== window) window.parent.postMessage(done, "*"); else window.close();
</script>"""
)


class LoginPage:
    """
    The page where a person completes a login: one form that works without scripts.

    ``finish(key, token, workspace, expires_in, claims)`` completes the login that a program has started.

    """

    def __init__(self, *, public_base_url: str, finish: Finish) -> None:
        self._finish = finish
        parts = urlsplit(public_base_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._secure = parts.scheme == "https"

    async def serve(self, event: Mapping[str, Any]) -> Response:
        """Answer one request for the page (contract 01 §5.6 ``functions``)."""
        query = _fields(str(event.get("query_string") or ""))
        if str(event.get("method") or "GET").upper() == "POST":
            return await self._submitted(event, query)
        if query.get("logout"):
            return self._logged_out()
        return _form(query)

    async def _submitted(self, event: Mapping[str, Any], query: dict[str, str]) -> Response:
        body = event.get("body") or b""
        if len(body) > _MAX_FORM_BYTES:
            return _form(query, problem="That is too long for a token.", status=413)
        text = body if isinstance(body, str) else bytes(body).decode("utf-8", "replace")
        fields = query | _fields(text)
        key, token = fields.get("key", ""), fields.get("token", "").strip()
        if not key:
            return _form(fields, status=400)
        try:
            life_s = life_of(_number(fields["expires_in"])) if fields.get("expires_in") else None
            handed = await self._finish(key, token, fields.get("workspace"), life_s, {})
        except HyphaError as error:
            return _form(fields, problem=_problem(error), status=error.status)
        return self._logged_in(event, fields, handed, life_s or DEFAULT_LIFE_S)

    def _logged_in(self, event: Mapping[str, Any], fields: dict[str, str], token: str, life_s: int) -> Response:
        headers: dict[str, Any] = {}
        # A form on somebody else's page must not log this browser in as somebody else.
        if self._is_own_form(event):
            headers["Set-Cookie"] = self._cookie(token, life_s)
        target = fields.get("redirect", "")
        if self._is_own_page(target):
            return _response(303, "", headers | {"Location": target})
        message = {"type": "hypha-login-complete", "key": fields["key"]}
        content = '<p role="status">You can close this window and go back to your program.</p>'
        return _page("You are logged in", content, message=message, headers=headers)

    def _logged_out(self) -> Response:
        content = '<p role="status">This browser has forgotten your token.</p>'
        return _page("You are logged out", content, headers={"Set-Cookie": self._cookie("", 0)})

    def _cookie(self, token: str, life_s: int) -> str:
        return f"access_token={token}; Path=/; SameSite=Lax; Max-Age={life_s}{'; Secure' if self._secure else ''}"

    def _is_own_form(self, event: Mapping[str, Any]) -> bool:
        headers = {str(name).lower(): str(value) for name, value in dict(event.get("headers") or {}).items()}
        site = headers.get("sec-fetch-site")
        return site == "same-origin" if site is not None else headers.get("origin") == self._origin

    def _is_own_page(self, target: str) -> bool:
        if not target or not target.isprintable() or "\\" in target:
            return False
        return (target.startswith("/") and not target.startswith("//")) or target.startswith(self._origin + "/")


def _form(fields: Mapping[str, str], *, problem: str = "", status: int = 200) -> Response:
    if not fields.get("key"):
        content = (
            "<p>A login begins in your program: call <code>login()</code> and open the address that it prints.</p>"
        )
        return _page("Log in", content, status=status)
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(fields[name])}">\n' for name in _FIELDS if fields.get(name)
    )
    workspace = fields.get("workspace")
    note = _NOTE
    if workspace:
        note = f"{note} The program will get a token for workspace {escape(workspace)} only."
    content = _FORM.substitute(
        problem=f'<p class="error" role="alert" id="problem">{escape(problem)}</p>\n' if problem else "",
        invalid=' aria-invalid="true"' if problem else "",
        hidden=hidden,
        note=note,
    )
    return _page("Log in", content, status=status)


def _page(
    title: str,
    content: str,
    *,
    status: int = 200,
    message: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    nonce = secrets.token_urlsafe(16)
    script = ""
    if message is not None:
        # "<" is the one character that could end the script element early.
        text = json.dumps(message).replace("<", "\\u003c")
        script = _DONE_SCRIPT.substitute(nonce=nonce, message=text)
    body = _TEMPLATE.substitute(title=escape(title), content=content, script=script, nonce=nonce)
    allowed = f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; form-action 'self'"
    types = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": f"default-src 'none'; base-uri 'none'; {allowed}",
    }
    return _response(status, body, types | dict(headers or {}))


def _response(status: int, body: str, headers: Mapping[str, str]) -> Response:
    common = {
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",  # the address holds the key of the login
        "X-Content-Type-Options": "nosniff",
    }
    return {"status": status, "headers": common | dict(headers), "body": body}


def _fields(text: str) -> dict[str, str]:
    try:
        parsed = parse_qs(text, max_num_fields=50)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in parsed.items()}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequest("expires_in must be a number of seconds") from None


def _problem(error: HyphaError) -> str:
    if error.rpc_type == "AssertionError":
        return f"{error.message}. The login may have taken too long; start it again in your program."
    # The person knows a form, not the method behind it.
    return error.message.replace("Invalid token provided to report_login", "This token is not accepted")
