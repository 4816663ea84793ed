from __future__ import annotations

from collections.abc import Awaitable, Callable

from hypha_auth.accounts.accounts import Accounts
from hypha_auth.accounts.errors import NotVerified
from hypha_auth.accounts.repository import Account
from hypha_auth.login_flow import LoginFlow, problem_of
from hypha_auth.login_request import LoginRequest
from hypha_common.errors import HyphaError

from .account_forms import AccountForms
from .browser import BrowserRequest
from .layout import Response

__all__ = ["AccountPages"]

SignIn = Callable[..., Awaitable[Response]]


class AccountPages:
    """What people with an account here do on the login page: sign up, verify, log in, choose another password."""

    def __init__(self, *, accounts: Accounts, flow: LoginFlow) -> None:
        self.accounts = accounts
        self.forms = AccountForms(flow.layout.path, sends_mail=accounts.sends_mail)
        self._flow = flow
        self._actions = {
            "login": self._log_in,
            "signup": self._sign_up,
            "verify": self._verify,
            "resend": self._resend,
            "forgot": self._forgot,
            "reset": self._reset,
        }

    def view(self, name: str, request: LoginRequest, asked: str, opener: str) -> Response | None:
        """Return the page for signing up or for a forgotten password; None where no other than the first is meant."""
        if name == "signup":
            return self._page("Create an account", self.forms.sign_up(request, asked=asked, opener=opener))
        if name == "forgot" and self.accounts.sends_mail:
            return self._page("Forgot your password?", self.forms.forgot(request))
        return None

    async def act(self, browser: BrowserRequest, request: LoginRequest, sign_in: SignIn) -> Response | None:
        """Do what a form asks for; None where it is none of ours. ``sign_in`` shows the first page again."""
        action = self._actions.get(browser.form.get("action", ""))
        return None if action is None else await action(browser, request, sign_in)

    async def _log_in(self, browser: BrowserRequest, request: LoginRequest, sign_in: SignIn) -> Response:
        email, password = browser.form.get("email", ""), browser.form.get("password", "")
        try:
            account = await self.accounts.log_in(email, password, address=browser.address)
        except NotVerified as error:
            return await self._send_again(browser, request, email, error.ticket)
        except HyphaError as error:
            return await sign_in(email=email, problem=problem_of(error), status=error.status)
        return await self._welcome(browser, request, account)

    async def _sign_up(self, browser: BrowserRequest, request: LoginRequest, sign_in: SignIn) -> Response:
        form = browser.form
        name, email, opener = form.get("name", ""), form.get("email", ""), form.get("opener", "")
        try:
            new = await self.accounts.sign_up(email, form.get("password", ""), name, address=browser.address)
            if new.code is not None:
                # There is no mail to wait for: the code would only be copied from one page to the next.
                account = await self.accounts.verify_email(new.email, new.code)
                return await self._welcome(browser, request, account)
        except HyphaError as error:
            content = self.forms.sign_up(request, name=name, email=email, problem=problem_of(error), opener=opener)
            return self._page("Create an account", content, status=error.status)
        content = self.forms.verify(request, email=new.email, ticket=new.ticket, opener=opener)
        return self._page("Check your mail", content)

    async def _verify(self, browser: BrowserRequest, request: LoginRequest, sign_in: SignIn) -> Response:
        email, ticket, opener = self._carried(browser)
        try:
            account = await self.accounts.verify_email(email, browser.form.get("code", "").replace(" ", ""))
        except HyphaError as error:
            content = self.forms.verify(request, email=email, ticket=ticket, problem=problem_of(error), opener=opener)
            return self._page("Check your mail", content, status=error.status)
        if not self.accounts.holds_ticket(account, ticket):
            return await sign_in(email=email, told="Your address is verified. You can log in now.")
        return await self._welcome(browser, request, account)

    async def _resend(self, browser: BrowserRequest, request: LoginRequest, sign_in: SignIn) -> Response:
        email, ticket, _ = self._carried(browser)
        return await self._send_again(browser, request, email, ticket, told="Another code is on its way.")

    async def _send_again(
        self, browser: BrowserRequest, request: LoginRequest, email: str, ticket: str, *, told: str = ""
    ) -> Response:
        opener = browser.form.get("opener", "")
        try:
            code = await self.accounts.resend_code(email)
            if code is not None and ticket:
                account = await self.accounts.verify_email(email, code)
                if self.accounts.holds_ticket(account, ticket):
                    return await self._welcome(browser, request, account)
        except HyphaError as error:
            content = self.forms.verify(request, email=email, ticket=ticket, problem=problem_of(error), opener=opener)
            return self._page("Check your mail", content, status=error.status)
        content = self.forms.verify(request, email=email, ticket=ticket, told=told, opener=opener)
        return self._page("Check your mail", content)

    async def _forgot(self, browser: BrowserRequest, request: LoginRequest, sign_in: SignIn) -> Response:
        email = browser.form.get("email", "")
        try:
            await self.accounts.forgot_password(email)
        except HyphaError as error:
            content = self.forms.forgot(request, email=email, problem=problem_of(error))
            return self._page("Forgot your password?", content, status=error.status)
        return self._page("Choose a new password", self.forms.reset(request, email=email))

    async def _reset(self, browser: BrowserRequest, request: LoginRequest, sign_in: SignIn) -> Response:
        form = browser.form
        email, code = form.get("email", ""), form.get("code", "").replace(" ", "")
        try:
            account = await self.accounts.reset_password(email, code, form.get("password", ""))
        except HyphaError as error:
            content = self.forms.reset(request, email=email, problem=problem_of(error))
            return self._page("Choose a new password", content, status=error.status)
        return await self._welcome(browser, request, account)

    async def _welcome(self, browser: BrowserRequest, request: LoginRequest, account: Account) -> Response:
        return await self._flow.complete(request, self.accounts.identity(account), remember=browser.is_own)

    def _page(self, title: str, content: str, *, status: int = 200) -> Response:
        return self._flow.layout.page(title, content, status=status, framed=True)

    @staticmethod
    def _carried(browser: BrowserRequest) -> tuple[str, str, str]:
        return tuple(browser.form.get(name, "") for name in ("email", "ticket", "opener"))  # type: ignore[return-value]
