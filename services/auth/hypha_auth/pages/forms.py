from __future__ import annotations

from collections.abc import Iterable
from html import escape

from hypha_auth.identity import SignInButton
from hypha_auth.issuing import DEFAULT_LIFE_S
from hypha_auth.login_request import LoginRequest

from .layout import field, hidden

__all__ = ["button_links", "in_words", "password_field", "problem_box", "program_box", "shown_fields", "token_form"]

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def problem_box(problem: str) -> str:
    """Return what went wrong; assistive technology reads it first."""
    return f'<p class="error" role="alert" id="problem">{escape(problem)}</p>\n' if problem else ""


def program_box(request: LoginRequest, *, workspace: str, life_s: int | None, opened_by: str) -> str:
    """Tell who asks for a login, and what they would get."""
    if not request.key:
        return ""
    by = f" from a page of <strong>{escape(opened_by)}</strong>" if opened_by else ""
    if workspace:
        life = in_words(life_s or DEFAULT_LIFE_S)
        gets = f"It gets access to the workspace <strong>{escape(workspace)}</strong> only, for {life}."
    else:
        gets = "It gets access to all that is yours on this server, for as long as your login lasts."
    return (
        f'<div class="box"><p>A program asks you to log in{by}.</p>\n<p>{gets}</p>\n'
        "<p>Go on only if you have started it yourself.</p></div>\n"
    )


def in_words(seconds: int) -> str:
    """``3600`` -> ``1 hour``; the largest unit that fits without a rest."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0 and seconds >= size)
    count = seconds // size
    return f"{count} {unit}{'' if count == 1 else 's'}"


def shown_fields(request: LoginRequest, action: str, **more: str) -> str:
    """Return the hidden fields that every form carries on."""
    return hidden({**request.given(), "action": action, **{name: text for name, text in more.items() if text}})


def password_field(*, name: str = "password", label: str = "Password", new: bool = False, focus: bool = False) -> str:
    note, limits = ("At least 8 characters.", ' minlength="8"') if new else ("", "")
    kind = "new-password" if new else "current-password"
    attributes = f'required maxlength="1024" autocomplete="{kind}"{limits}{" autofocus" if focus else ""}'
    return field(name, label, kind="password", note=note, attributes=attributes)


def token_form(request: LoginRequest, path: str, *, opener: str, invalid: bool, focus: bool) -> str:
    """Return the form for somebody who has a token already."""
    wrong = (
        ' aria-invalid="true" aria-describedby="problem token-note"' if invalid else ' aria-describedby="token-note"'
    )
    return (
        f'<form method="post" action="{escape(path)}">\n{shown_fields(request, "token", opener=opener)}'
        '<div class="field"><label for="token">Your token</label>\n'
        f'<textarea id="token" name="token" required autocomplete="off" spellcheck="false"{wrong}'
        f"{' autofocus' if focus else ''}></textarea>\n"
        '<p class="note" id="token-note">One that was generated for you, or the root token of this server.</p></div>\n'
        '<button type="submit" class="second">Log in with the token</button>\n</form>\n'
    )


def button_links(buttons: Iterable[SignInButton], *, window: str = "") -> str:
    """
    Return the buttons of identity providers.

    ``window``: the page is shown inside another one, where providers refuse to be shown and a click may be stolen;
    the buttons open this address in a window of its own, to go on there.

    """
    target = ' target="_blank"' if window else ""
    return "".join(
        f'<p><a class="button" href="{escape(window or button.url)}"{target}>{escape(button.label)}</a></p>\n'
        for button in buttons
    )
