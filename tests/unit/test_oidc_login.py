"""Logging in at a real OpenID Connect provider, by way of two replicas of the auth service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from hypha_auth.main import Auth
from hypha_auth.oidc.states import PendingAuthorization, PendingAuthorizations
from hypha_common.db import Database
from hypha_common.errors import QuotaExceeded
from hypha_common.settings import Settings
from hypha_common.tokens import VerifiedToken
from tests.fixtures.auth import auth_database, auth_settings, nats_url, postgres
from tests.fixtures.oidc import SECRET as CLIENT_SECRET
from tests.fixtures.oidc import OidcServer, Visitor

__all__ = ["auth_database", "auth_settings", "nats_url", "postgres"]

pytestmark = pytest.mark.node

HUB = "http://hub.example.org"
STRANGER = "This login was not begun in this browser"


class Browser:
    """A person's browser: keeps cookies, and goes from the hub to the provider and back."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}
        self.provider = Visitor(HUB)

    async def get(self, auth: Auth, function: str, query: str = "", **headers: str) -> dict[str, Any]:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        event = {
            "method": "GET",
            "query_string": query,
            "headers": {"sec-fetch-site": "same-origin", "cookie": cookie, **headers},
            "body": None,
        }
        answer: dict[str, Any] = await auth.people.service.methods[function].function(event)
        lines = answer["headers"].get("Set-Cookie", [])
        for line in [lines] if isinstance(lines, str) else lines:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in line:
                del self.cookies[name]
        return answer

    async def go(self, auth: Auth, name: str, **fields: str) -> str:
        """Log in at the provider, and return the query that it sends the browser back with."""
        begun = await self.get(auth, "oidc.start", urlencode(fields))
        assert begun["status"] == 303
        return urlsplit(await self.provider.log_in(begun["headers"]["Location"], name)).query

    async def log_in(self, auth: Auth, name: str, **fields: str) -> VerifiedToken:
        """Log in, and return what the browser's token then says."""
        done = await self.get(auth, "oidc.callback", await self.go(auth, name, **fields))
        assert done["status"] in (200, 303), done["body"]
        return auth.security.verbs.verify(self.cookies["access_token"])


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    browser = Browser()
    yield browser
    await browser.provider.http.aclose()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Auth]:
    auth = Auth(settings, on_fatal=pytest.fail)
    await auth.start()
    try:
        yield auth
    finally:
        await auth.stop()


def settings_for(base: Settings, server: OidcServer, **changes: Any) -> Settings:
    return base.replace(**{"oidc_issuer": server.issuer, "oidc_client_id": "hub", "oidc_name": "Example ID", **changes})


@pytest.fixture
async def replicas(
    auth_settings: Settings, auth_database: Database, oidc_server: OidcServer
) -> AsyncIterator[list[Auth]]:
    settings = settings_for(auth_settings, oidc_server)
    async with running(settings) as first, running(settings) as second:
        yield [first, second]


async def test_begun_at_one_replica_and_ended_at_another(replicas: list[Auth], browser: Browser) -> None:
    back = await browser.go(replicas[0], "ada")
    done = await browser.get(replicas[1], "oidc.callback", back)
    assert done["status"] == 303
    assert set(browser.cookies) == {"access_token", "hypha_version"}  # nothing is left of the way
    user = replicas[0].security.verbs.verify(browser.cookies["access_token"]).principal
    assert (user.id, user.email, user.roles, user.parent) == ("ada", "ada@example.org", ("user",), None)


async def test_who_people_are(replicas: list[Auth], browser: Browser) -> None:
    """Power comes with the provider's word in our namespace; an e-mail that it has not verified owns nothing."""
    chief = (await browser.log_in(replicas[0], "chief-ada")).principal
    assert chief.is_admin
    other = Browser()
    unverified = (await other.log_in(replicas[0], "unverified-ada")).principal
    assert unverified.email is None
    await other.provider.http.aclose()


async def test_return_to_a_page(replicas: list[Auth], browser: Browser) -> None:
    done = await browser.get(
        replicas[0], "oidc.callback", await browser.go(replicas[0], "ada", redirect="/ws-a/apps/x/")
    )
    assert (done["status"], done["headers"]["Location"]) == (303, "/ws-a/apps/x/")


async def test_replay(replicas: list[Auth], browser: Browser) -> None:
    """An address that has logged somebody in is of no use, even with the cookies of that time."""
    back = await browser.go(replicas[0], "ada")
    cookies = dict(browser.cookies)
    await browser.get(replicas[0], "oidc.callback", back)
    browser.cookies = cookies
    for auth in replicas:
        again = await browser.get(auth, "oidc.callback", back)
        assert again["status"] == 400
        assert STRANGER in again["body"]
        assert "access_token" not in browser.cookies


async def test_foreign_browsers(replicas: list[Auth], browser: Browser) -> None:
    """Nobody can be logged in as somebody else by a link; trying that does not disturb who it belongs to."""
    back = await browser.go(replicas[0], "mallory")
    victim = Browser()
    assert STRANGER in (await victim.get(replicas[0], "oidc.callback", back))["body"]
    await victim.get(replicas[0], "oidc.start")  # the victim has a login of its own under way
    state = parse_qs(back)["state"][0]
    for name, value in list(victim.cookies.items()):
        victim.cookies[f"{name[: -len(state[:12])]}{state[:12]}"] = value
    assert STRANGER in (await victim.get(replicas[0], "oidc.callback", back))["body"]
    assert "access_token" not in victim.cookies
    assert (await browser.get(replicas[0], "oidc.callback", back))["status"] == 303


@pytest.mark.parametrize(
    "query", ["", "code=x", "state=", "state=x&code=y", "state=%00%ff&code=y", "state=" + "x" * 9999]
)
async def test_wrong_states(replicas: list[Auth], browser: Browser, query: str) -> None:
    answer = await browser.get(replicas[0], "oidc.callback", query)
    assert answer["status"] == 400
    assert STRANGER in answer["body"]


async def test_a_state_ends(replicas: list[Auth], browser: Browser, auth_database: Database) -> None:
    back = await browser.go(replicas[0], "ada")
    await auth_database.home.execute("UPDATE oidc_states SET expires_at = now()")
    assert STRANGER in (await browser.get(replicas[0], "oidc.callback", back))["body"]
    await replicas[0].people.sweep()
    assert await auth_database.home.fetchval("SELECT count(*) FROM oidc_states") == 0


async def test_too_many(auth_database: Database) -> None:
    """Anybody can begin logins: how many are remembered is bounded, and how much of each."""
    pending = PendingAuthorizations(auth_database.home, max_pending=2)
    for number in range(2):
        await pending.add(str(number), PendingAuthorization(b"", "", "", {}), life_s=60)
    with pytest.raises(QuotaExceeded):
        await pending.add("3", PendingAuthorization(b"", "", "", {}), life_s=60)


async def test_too_long(replicas: list[Auth], browser: Browser) -> None:
    answer = await browser.get(replicas[0], "oidc.start", urlencode({"workspace": "w" * 2000, "redirect": "/" * 2000}))
    assert answer["status"] == 400


async def test_another_name_of_the_hub(replicas: list[Auth], browser: Browser) -> None:
    """The provider sends browsers to the public address, so that a login has to begin there."""
    answer = await browser.get(replicas[0], "oidc.start", "key=K1", referer="http://10.0.0.5/public/apps/hypha-login/")
    assert (answer["status"], answer["headers"]["Location"]) == (303, f"{HUB}/public/apps/hypha-login/?key=K1")


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"iss": "https://evil.example.org"}, 401, "cannot be trusted"),
        ({"iss": None}, 401, "cannot be trusted"),
        ({"code": "<b>another</b>"}, 401, "Example ID could not log you in"),
        ({"code": None}, 401, "Example ID could not log you in"),
        ({"code": None, "error": "access_denied"}, 401, "Example ID was not allowed to tell who you are"),
        ({"error": "<script>alert(1)</script>"}, 401, "Example ID could not log you in"),
    ],
)
async def test_answers_that_log_nobody_in(
    replicas: list[Auth], browser: Browser, change: dict[str, str | None], status: int, text: str
) -> None:
    """A plain sentence, the way back to the page, and nothing of what the address said."""
    answered = {name: values[0] for name, values in parse_qs(await browser.go(replicas[0], "ada", key="K1")).items()}
    query = {name: value for name, value in {**answered, **change}.items() if value is not None}
    answer = await browser.get(replicas[0], "oidc.callback", urlencode(query))
    assert answer["status"] == status
    assert text in answer["body"]
    assert "alert(1)" not in answer["body"]
    assert 'href="/public/apps/hypha-login/?key=K1"' in answer["body"]
    assert browser.cookies == {}


async def test_only_browsers_that_follow(replicas: list[Auth], browser: Browser) -> None:
    for function in ("oidc.start", "oidc.callback"):
        answer = await replicas[0].people.service.methods[function].function({"method": "POST", "body": b"x" * 99999})
        assert (answer["status"], answer["headers"]["Location"]) == (303, "/public/apps/hypha-login/")


async def test_cookie_over_tls(auth_settings: Settings, auth_database: Database, oidc_server: OidcServer) -> None:
    """No other site of the same domain can plant it, and no script reads it."""
    settings = settings_for(auth_settings, oidc_server, public_base_url="https://hub.example.org/base")
    async with running(settings) as auth:
        browser = Browser()
        begun = await browser.get(auth, "oidc.start")
    cookie = begun["headers"]["Set-Cookie"]
    assert cookie.startswith("__Host-hypha-oidc-")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    query = parse_qs(urlsplit(begun["headers"]["Location"]).query)
    assert query["redirect_uri"] == ["https://hub.example.org/base/public/apps/hypha-login/oidc/callback"]
    assert query["code_challenge_method"] == ["S256"]
    assert query["scope"] == ["openid profile email"]


async def test_confidential_client(
    auth_settings: Settings, auth_database: Database, oidc_server: OidcServer, browser: Browser
) -> None:
    client = {"oidc_client_id": "confidential hub", "oidc_client_secret": CLIENT_SECRET}
    async with running(settings_for(auth_settings, oidc_server, **client)) as auth:
        assert (await browser.log_in(auth, "ada")).principal.id == "ada"
    client["oidc_client_secret"] = "another"
    async with running(settings_for(auth_settings, oidc_server, **client)) as auth:
        answer = await browser.get(auth, "oidc.callback", await browser.go(auth, "ada"))
        assert "Example ID could not log you in" in answer["body"]


async def test_provider_that_changes(
    start_oidc_server: Callable[..., OidcServer],
    auth_settings: Settings,
    auth_database: Database,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Down at the start, up with all claims in its ID tokens, back with another key: never a restart of ours."""
    for module in ("keys", "discovery"):
        monkeypatch.setattr(f"hypha_auth.oidc.{module}._RETRY_S", 0.1)
    server = start_oidc_server(claimsInIdToken=True)
    server.stop()
    async with running(settings_for(auth_settings, server)) as auth:
        answer = await browser.get(auth, "oidc.start", "key=K1")
        assert answer["status"] == 503
        assert "Example ID cannot be reached at the moment" in answer["body"]
        assert 'href="/public/apps/hypha-login/?key=K1"' in answer["body"]
        page = await browser.get(auth, "index", "")
        assert "Continue with Example ID" in page["body"]
        server.start()
        assert (await browser.log_in(auth, "ada")).principal.email == "ada@example.org"
        server.stop()
        server.start()
        assert (await browser.log_in(auth, "grace")).principal.id == "grace"
