from __future__ import annotations

from html import escape

from hypha_auth.accounts.repository import Account
from hypha_auth.accounts.texts import MAX_NAME_CHARACTERS
from hypha_auth.login_request import LoginRequest

from .forms import password_field, problem_box, shown_fields
from .layout import field

__all__ = ["AccountForms"]

_EMAIL = 'required maxlength="254" autocomplete="username" inputmode="email" spellcheck="false" autocapitalize="none"'
_CODE = 'required class="code" inputmode="numeric" autocomplete="one-time-code" maxlength="12" pattern="[0-9 ]*"'


class AccountForms:
    """The forms of people with an account here, as HTML; ``path`` is where they are sent."""

    def __init__(self, path: str, *, sends_mail: bool) -> None:
        self._path = escape(path)
        self._sends_mail = sends_mail

    def sign_in(
        self, request: LoginRequest, *, email: str = "", problem: str = "", opener: str = "", focus: bool = True
    ) -> str:
        first = _focus(focus and (not problem or not email))
        wrong = bool(problem)
        forgot = f'<a href="{self._link(request, "forgot")}">Forgot your password?</a>\n' if self._sends_mail else ""
        return (
            f'<form method="post" action="{self._path}">\n{shown_fields(request, "login", opener=opener)}'
            f"{field('email', 'Email', kind='email', value=email, attributes=_EMAIL + first, invalid=wrong)}"
            f"{_current_password(wrong, focus=bool(problem and email))}"
            '<button type="submit">Log in</button>\n</form>\n'
            f'<p class="links"><a href="{self._link(request, "signup")}">Create an account</a>\n{forgot}</p>\n'
        )

    def sign_up(
        self,
        request: LoginRequest,
        *,
        name: str = "",
        email: str = "",
        asked: str = "",
        problem: str = "",
        opener: str = "",
    ) -> str:
        limits = f'maxlength="{MAX_NAME_CHARACTERS}" autocomplete="name"'
        short = problem.startswith("Password")
        email_focus = _focus(bool(problem) and not short)
        return (
            f'{problem_box(problem)}{asked}<form method="post" action="{self._path}">\n'
            f"{shown_fields(request, 'signup', opener=opener)}"
            f"{field('name', 'Name', value=name, attributes=limits + _focus(not problem))}"
            f"{field('email', 'Email', kind='email', value=email, attributes=_EMAIL + email_focus)}"
            f"{password_field(new=True, focus=short)}"
            '<button type="submit">Create account</button>\n</form>\n'
            f'<p class="links"><a href="{self._link(request)}">I have an account already</a></p>\n'
        )

    def verify(
        self,
        request: LoginRequest,
        *,
        email: str,
        ticket: str = "",
        problem: str = "",
        told: str = "",
        opener: str = "",
    ) -> str:
        carried = {"email": email, "ticket": ticket, "opener": opener}
        status = f'<p role="status">{escape(told)}</p>\n' if told else ""
        return (
            f"{problem_box(problem)}{status}"
            f"<p>A code of six digits is on its way to <strong>{escape(email)}</strong>.</p>\n"
            f'<form method="post" action="{self._path}">\n{shown_fields(request, "verify", **carried)}'
            f"{field('code', 'Code', attributes=_CODE + _focus(True), invalid=bool(problem))}"
            '<button type="submit">Verify</button>\n</form>\n'
            f'<form method="post" action="{self._path}" class="links">\n{shown_fields(request, "resend", **carried)}'
            f'<button type="submit" class="plain">Send another code</button>\n'
            f'<a href="{self._link(request)}">Back</a>\n</form>\n'
        )

    def forgot(self, request: LoginRequest, *, email: str = "", problem: str = "") -> str:
        return (
            f"{problem_box(problem)}<p>We send you a code with which you can choose a new one.</p>\n"
            f'<form method="post" action="{self._path}">\n{shown_fields(request, "forgot")}'
            f"{field('email', 'Email', kind='email', value=email, attributes=_EMAIL + _focus(True))}"
            '<button type="submit">Send the code</button>\n</form>\n'
            f'<p class="links"><a href="{self._link(request)}">Back</a></p>\n'
        )

    def reset(self, request: LoginRequest, *, email: str, problem: str = "") -> str:
        return (
            f"{problem_box(problem)}"
            f"<p>If <strong>{escape(email)}</strong> has an account here, a code is on its way to it.</p>\n"
            f'<form method="post" action="{self._path}">\n{shown_fields(request, "reset", email=email)}'
            f"{field('code', 'Code', attributes=_CODE + _focus(True))}"
            f"{password_field(label='New password', new=True)}"
            '<button type="submit">Set the password</button>\n</form>\n'
            f'<p class="links"><a href="{self._link(request, "forgot")}">Send another code</a></p>\n'
        )

    def settings(self, account: Account) -> str:
        """The parts of the account page: name and password."""
        who = f'<input type="hidden" name="username" autocomplete="username" value="{escape(account.email)}">\n'
        limits = f'maxlength="{MAX_NAME_CHARACTERS}" autocomplete="name"'
        return (
            "<details><summary>Change your name</summary>\n"
            f'<form method="post" action="{self._path}">\n{shown_fields(LoginRequest(), "rename")}'
            f"{field('name', 'Name', value=account.name, attributes=limits)}"
            '<button type="submit" class="second">Change name</button>\n</form></details>\n'
            "<details><summary>Change your password</summary>\n"
            f'<form method="post" action="{self._path}">\n{shown_fields(LoginRequest(), "password")}{who}'
            f"{password_field(name='current_password', label='Current password')}"
            f"{password_field(name='new_password', label='New password', new=True)}"
            '<label class="check"><input type="checkbox" name="everywhere" value="true" checked>\n'
            "<span>Log out everywhere else: programs and browsers that logged in with the old password</span></label>\n"
            '<button type="submit" class="second">Change password</button>\n</form></details>\n'
        )

    def _link(self, request: LoginRequest, view: str = "") -> str:
        query = request.query(view=view) if view else request.query()
        return f"{self._path}?{escape(query)}" if query else self._path


def _current_password(wrong: bool, *, focus: bool) -> str:
    attributes = f'required maxlength="1024" autocomplete="current-password"{_focus(focus)}'
    return field("password", "Password", kind="password", attributes=attributes, invalid=wrong)


def _focus(wanted: bool) -> str:
    return " autofocus" if wanted else ""
