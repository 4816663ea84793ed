from __future__ import annotations

from html import escape

from hypha_auth.accounts.accounts import Accounts
from hypha_auth.accounts.repository import Account
from hypha_auth.login_flow import LoginFlow, problem_of
from hypha_auth.login_request import LoginRequest
from hypha_auth.revoking import LOGIN_LIFE_S
from hypha_auth.token_desk import TokenDesk
from hypha_common.errors import BadRequest, HyphaError
from hypha_common.ids import personal_workspace
from hypha_common.tokens import VerifiedToken

from .account_pages import AccountPages
from .browser import BrowserRequest
from .forms import problem_box, shown_fields
from .layout import Response, field

__all__ = ["HomePage"]

_LIVES = ((3600, "1 hour"), (86400, "1 day"), (7 * 86400, "7 days"), (30 * 86400, "30 days"), (365 * 86400, "1 year"))
_PERMISSIONS = (("read_write", "Use and register services"), ("read", "Look only"), ("admin", "Everything"))
_COPY = """const button = document.getElementById("copy"), field = document.getElementById("new-token");
button.hidden = false;
button.addEventListener("click", async () => {
  field.select();
  try { await navigator.clipboard.writeText(field.value); } catch { document.execCommand("copy"); }
  document.getElementById("copied").textContent = "Copied.";
});"""


class HomePage:
    """What a person sees who is logged in: who one is, a token for a program, one's account, the way out."""

    def __init__(self, *, flow: LoginFlow, desk: TokenDesk, accounts: AccountPages | None = None) -> None:
        self._flow = flow
        self._desk = desk
        self._accounts = accounts

    async def page(self, verified: VerifiedToken, *, problem: str = "", told: str = "", status: int = 200) -> Response:
        """Return the page of somebody who has come without a program."""
        user = verified.principal
        account = await self._account(verified)
        known = {
            "Name": account.name if account else "",
            "Email": user.email or "",
            "User id": user.id,
            "Workspace": verified.workspace or personal_workspace(user.id),
        }
        rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>\n" for name, text in known.items() if text)
        path = escape(self._flow.layout.path)
        content = (
            f"{problem_box(problem)}"
            + (f'<p role="status" class="box">{escape(told)}</p>\n' if told else "")
            + f'<dl class="who">{rows}</dl>\n'
            f"<details{' open' if problem and not account else ''}><summary>Generate a token for a program</summary>\n"
            f"{self._token_form(known['Workspace'])}</details>\n"
            + (self._accounts.forms.settings(account) if self._accounts and account else "")
            + f'<p><a class="button second" href="{path}?logout=true">Log out</a></p>\n'
        )
        return self._flow.layout.page("You are logged in", content, status=status)

    def confirm(
        self, request: LoginRequest, verified: VerifiedToken, head: str, *, opener: str, status: int
    ) -> Response:
        """Return the page of somebody who need only agree."""
        user = verified.principal
        path = escape(self._flow.layout.path)
        who = escape(user.email or user.id)
        content = (
            f'{head}<form method="post" action="{path}">\n{shown_fields(request, "continue", opener=opener)}'
            f'<button type="submit" autofocus>Continue as {who}</button>\n</form>\n'
            f'<p><a class="button second" href="{path}?{escape(request.query(clear="true"))}">Log in as somebody else'
            "</a></p>\n"
        )
        return self._flow.layout.page("Log in", content, status=status)

    async def act(self, action: str, browser: BrowserRequest, verified: VerifiedToken) -> Response:
        """Do what a form of the page asks for, in the name of whom the browser is logged in as."""
        try:
            if action == "generate":
                return await self._generate(browser, verified)
            account = await self._account(verified)
            if account is not None and self._accounts is not None:
                accounts, form = self._accounts.accounts, browser.form
                if action == "rename":
                    await accounts.rename(account, form.get("name", ""))
                    return await self.page(verified, told="Your name is changed.")
                if action == "password":
                    current, new = form.get("current_password", ""), form.get("new_password", "")
                    everywhere = bool(form.get("everywhere"))
                    changed = await accounts.change_password(account, current, new, everywhere=everywhere)
                    return await self._changed(accounts, changed, verified)
            raise BadRequest("Nothing here does that")
        except HyphaError as error:
            return await self.page(verified, problem=problem_of(error), status=error.status)

    async def _changed(self, accounts: Accounts, account: Account, verified: VerifiedToken) -> Response:
        answer = await self.page(verified, told="Your password is changed.")
        # The old token may be revoked by now; this browser has shown that it knows the password.
        token = self._flow.token_of(accounts.identity(account))
        return answer | {"headers": answer["headers"] | {"Set-Cookie": self._flow.cookies(token, LOGIN_LIFE_S)}}

    async def _generate(self, browser: BrowserRequest, verified: VerifiedToken) -> Response:
        form = browser.form
        config = {
            "workspace": form.get("workspace", "").strip() or None,
            "permission": form.get("permission") or None,
            "expires_in": _seconds(form.get("expires_in", "")),
        }
        token = await self._desk.issue(verified.principal, config)
        content = (
            "<p>Whoever has it may use it. It is shown only now.</p>\n"
            '<div class="field"><label for="new-token">Token</label>\n'
            f'<textarea id="new-token" readonly autofocus rows="8" spellcheck="false">'
            f"{escape(token)}</textarea></div>\n"
            '<button type="button" id="copy" hidden>Copy</button>\n<p id="copied" role="status"></p>\n'
            f'<p><a class="button second" href="{escape(self._flow.layout.path)}">Back</a></p>\n'
        )
        return self._flow.layout.page("Your new token", content, script=_COPY)

    def _token_form(self, workspace: str) -> str:
        path, carried = escape(self._flow.layout.path), shown_fields(LoginRequest(), "generate")
        required = 'required maxlength="255" spellcheck="false" autocapitalize="none" autocomplete="off"'
        return (
            f'<form method="post" action="{path}">\n{carried}'
            f"{field('workspace', 'Workspace', value=workspace, attributes=required)}"
            '<div class="pair">\n'
            f"{_choice('permission', 'It may', _PERMISSIONS)}{_choice('expires_in', 'Good for', _LIVES)}"
            '</div>\n<button type="submit">Generate token</button>\n</form>'
        )

    async def _account(self, verified: VerifiedToken) -> Account | None:
        """Return the account here of somebody who holds a token of his or her own, not a lesser one."""
        user = verified.principal
        if self._accounts is None or user.parent is not None or verified.workspace is not None:
            return None
        return await self._accounts.accounts.account(user.id)


def _choice(name: str, label: str, options: tuple[tuple[object, str], ...]) -> str:
    items = "".join(f'<option value="{value}">{escape(text)}</option>\n' for value, text in options)
    return (
        f'<div class="field"><label for="{name}">{escape(label)}</label>\n'
        f'<select id="{name}" name="{name}">\n{items}</select></div>\n'
    )


def _seconds(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise BadRequest("expires_in must be a number of seconds") from None
