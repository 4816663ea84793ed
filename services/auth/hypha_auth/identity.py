from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .login_request import LoginRequest

__all__ = ["Identity", "IdentityProvider", "SignInButton"]


@dataclass(frozen=True, slots=True)
class Identity:
    """
    A person, as an identity provider vouches for them.

    ``user_id`` is unique among the people of all providers, and fit for the name of a workspace (``ws-user-<id>``).

    """

    user_id: str
    email: str | None = None
    email_verified: bool = False  # an address that is not verified never gets into a token: it would own things
    name: str | None = None
    nickname: str | None = None
    picture: str | None = None
    roles: tuple[str, ...] = ("user",)
    # Every token of this login bears it as its origin: revoking it ends them all. Empty: the token stands alone.
    origin: str = ""

    def claims(self) -> dict[str, object]:
        """Return what a program that asks for the profile is told, as far as it is known."""
        known = {
            "email": self.email,
            "email_verified": self.email_verified,
            "name": self.name,
            "nickname": self.nickname,
            "picture": self.picture,
        }
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class SignInButton:
    """A way to log in (or out) that begins elsewhere: what a page writes on the button, and where it leads."""

    label: str
    url: str


class IdentityProvider(Protocol):
    """
    Turns a person into an :class:`Identity`, and then calls :meth:`hypha_auth.login_flow.LoginFlow.complete`.

    Methods marked with ``rpc_method(name="oidc.start")`` join the service ``hypha-login``: browsers reach them at
    ``/public/apps/hypha-login/oidc/start``, with the event of contract 01 §5.6 as the only argument.

    """

    def button(self, request: LoginRequest) -> SignInButton | None:
        """Return this provider's button on a login page that was opened with ``request``."""

    def farewell(self) -> SignInButton | None:
        """Return the way to where this provider ends its own login, for the page of those who have logged out here."""

    async def sweep(self) -> None:
        """Forget what is too old to be of use; called now and then."""

    async def close(self) -> None:
        """Give up connections; nothing is asked of the provider afterwards."""
