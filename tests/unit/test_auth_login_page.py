from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest

from hypha_auth.handover import UnknownLogin
from hypha_auth.identity import Identity, IdentityProvider, SignInButton
from hypha_auth.login_flow import LoginFlow
from hypha_auth.login_request import LoginRequest
from hypha_auth.pages.home_page import HomePage
from hypha_auth.pages.layout import Layout, Response
from hypha_auth.pages.login_page import LoginPage
from hypha_auth.repository import LoginSession
from hypha_auth.token_desk import TokenDesk
from hypha_common.errors import BadRequest, NotFound
from hypha_common.principal import Permission, Principal
from hypha_common.tokens import TokenCodec, VerifiedToken
from tests.fixtures.auth import HeardAudit

BASE = "https://hub.example.org/base"
CODEC = TokenCodec("a secret of at least thirty-two bytes")


class Person:
    """Stands at the page: fills the form and sees what comes back."""

    def __init__(self, base_url: str = BASE) -> None:
        self.finished: list[tuple[Any, ...]] = []
        self.refuses = False
        self.session_of = LoginSession(None, None, None, None)
        here: Any = self
        audit: Any = HeardAudit()
        self.flow = LoginFlow(handover=here, layout=Layout(public_base_url=base_url), codec=CODEC, audit=audit)
        self.home = HomePage(flow=self.flow, desk=TokenDesk(codec=CODEC, owned=self.owned, audit=audit))
        self.use()

    def use(self, *providers: IdentityProvider) -> None:
        here: Any = self
        self.page = LoginPage(flow=self.flow, handover=here, judge=self.judge, home=self.home, providers=providers)

    async def session(self, key: str) -> LoginSession:
        if not key.startswith("K"):
            raise UnknownLogin
        return self.session_of

    async def owned(self, user: Principal, workspace: str) -> Permission:
        raise NotFound(workspace)

    async def finish(
        self, key: str, token: str, workspace: str | None, life_s: int | None, claims: Mapping[str, Any]
    ) -> str:
        if token != "good" or self.refuses:
            raise BadRequest("Invalid token provided to report_login: <b>no</b>")
        self.finished.append((key, token, workspace, life_s))
        return "handed"

    async def limited(self, token: str, verified: VerifiedToken, workspace: str | None, life_s: int | None) -> str:
        return token

    async def judge(self, token: str) -> VerifiedToken:
        if token == "good":
            token = CODEC.sign(Principal(id="alice", email="alice@example.org"), life_s=60)
        return CODEC.verify(token)

    async def open(self, **query: Any) -> Response:
        return await self.page.serve({"method": "GET", "query_string": urlencode(query), "headers": {}, "body": None})

    async def submit(self, headers: dict[str, str] | None = None, **fields: Any) -> Response:
        event = {"method": "POST", "query_string": "", "headers": headers or {}, "body": urlencode(fields).encode()}
        return await self.page.serve(event)


class Fields(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: dict[str, str | None] = {}
        self.labels: set[str | None] = set()
        self.ids: set[str | None] = set()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids.add(given.get("id"))
        if tag == "label":
            self.labels.add(given.get("for"))
        if tag in ("input", "textarea"):
            self.values[str(given.get("name"))] = given.get("value")


@pytest.fixture
def person() -> Person:
    return Person()


async def test_form(person: Person) -> None:
    """The page has one labelled field, and carries on what the program asked for."""
    answer = await person.open(key="K1", workspace="ws-a", expires_in="60")
    assert answer["status"] == 200
    fields = Fields(answer["body"])
    assert fields.values == {
        "key": "K1",
        "workspace": "ws-a",
        "expires_in": "60",
        "action": "token",
        "token": None,
    }
    assert "token" in fields.labels & fields.ids
    assert {"main", "h1", "title", "button"} <= set(fields.tags)
    assert '<html lang="en">' in answer["body"]


async def test_form_without_a_key(person: Person) -> None:
    """Somebody who finds the page without a program logs this browser in."""
    answer = await person.open()
    assert answer["status"] == 200
    assert Fields(answer["body"]).values == {"action": "token", "token": None}
    done = await person.submit({"sec-fetch-site": "same-origin"}, token="good")
    assert (done["status"], done["headers"]["Location"]) == (303, "/base/public/apps/hypha-login/")
    assert done["headers"]["Set-Cookie"][0].startswith("access_token=good; ")
    assert (await person.submit(token="bad"))["status"] == 400


async def test_button(person: Person) -> None:
    """A provider's button stands on the page, with what it says as text."""

    class Provider:
        def button(self, request: LoginRequest) -> SignInButton:
            return SignInButton("Example <b>ID</b>", f"/oidc/start?{request.query()}")

        async def sweep(self) -> None: ...
        async def close(self) -> None: ...

    person.use(Provider())
    body = (await person.open(key="K1", redirect="/a b"))["body"]
    assert 'href="/oidc/start?key=K1&amp;redirect=%2Fa+b"' in body
    assert "Example &lt;b&gt;ID&lt;/b&gt;" in body


async def test_provider_completes(person: Person) -> None:
    """What a provider knows of a person becomes a token of his or her own; what is not verified stays out of it."""
    identity = Identity("carol", email="carol@example.org", name="Carol", origin="family")
    answer = await person.flow.complete(LoginRequest(), identity)
    assert answer["status"] == 303
    token = CODEC.verify(answer["headers"]["Set-Cookie"][0].partition("=")[2].partition(";")[0])
    assert (token.principal.id, token.principal.email, token.workspace, token.origins) == (
        "carol",
        None,
        None,
        ("family",),
    )
    assert token.principal.roles == ("user",)
    assert token.principal.permission("ws-user-carol") is Permission.ADMIN
    assert token.expires_at == pytest.approx(time.time() + 86400, abs=5)
    verified = replace(identity, email_verified=True)
    assert CODEC.verify(person.flow.token_of(verified)).principal.email == "carol@example.org"

    person.refuses = True
    answer = await person.flow.complete(LoginRequest(key="K1", expires_in="60"), identity)
    assert answer["status"] == 400
    assert "Set-Cookie" not in answer["headers"]


async def test_values_are_escaped(person: Person) -> None:
    """What stands in the address cannot become part of the page."""
    bad = '"><script>alert(1)</script>'
    body = (await person.open(key=bad, workspace=bad, redirect=bad))["body"]
    assert "<script>alert" not in body
    body = (await person.submit(key="</script><script>alert(1)</script>", token="good"))["body"]
    assert "<script>alert" not in body


async def test_policy(person: Person) -> None:
    """Nothing runs on the page that did not come with it, and nothing keeps it."""
    headers = (await person.open(key="K1"))["headers"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


async def test_submit(person: Person) -> None:
    """A good token completes the login, and the page tells whoever embeds it."""
    answer = await person.submit(key="K1", token=" good\n", workspace="ws-a", expires_in="60")
    assert person.finished == [("K1", "good", "ws-a", 60)]
    assert answer["status"] == 200
    assert '{"type": "hypha-login-complete", "key": "K1"}' in answer["body"]
    assert "handed" not in answer["body"]


async def test_cookie(person: Person) -> None:
    """The browser is logged in too, but only by a form of this very page."""
    foreign = await person.submit(key="K1", token="good")
    crossing = await person.submit({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil"}, key="K1", token="good")
    assert "Set-Cookie" not in foreign["headers"]
    assert "Set-Cookie" not in crossing["headers"]
    assert crossing["status"] == 403
    assert (await person.submit({"Origin": "null"}, key="K1", token="good"))["status"] == 403
    for own in ({"sec-fetch-site": "same-origin"}, {"origin": "https://hub.example.org"}):
        answer = await person.submit(own, key="K1", token="good", expires_in="60")
        cookies = answer["headers"]["Set-Cookie"]
        assert cookies[0].startswith("access_token=good; Path=/; SameSite=Lax; Max-Age=5") and cookies[0].endswith(
            "; Secure"
        )
        assert cookies[2].startswith("hypha_version=")
    plain = await Person("http://127.0.0.1:9527").submit({"sec-fetch-site": "same-origin"}, key="K1", token="good")
    assert "Secure" not in plain["headers"]["Set-Cookie"][0]


async def test_bad_token(person: Person) -> None:
    """The person is told what is wrong, next to the form, and may try again."""
    person.refuses = True
    assert "&lt;b&gt;no" in (await person.submit(key="K1", token="good", workspace="ws-a"))["body"]
    answer = await person.submit(key="K1", token="bad", workspace="ws-a")
    assert answer["status"] == 400
    assert 'role="alert"' in answer["body"]
    assert "bad" not in str(Fields(answer["body"]).values.values())
    assert Fields(answer["body"]).values["workspace"] == "ws-a"


@pytest.mark.parametrize(
    ("target", "followed"),
    [
        ("/ws-a/apps/x/?a=1", True),
        ("https://hub.example.org/x", True),
        ("//evil.example.org/", False),
        ("https://evil.example.org/", False),
        ("https://hub.example.org.evil.org/", False),
        ("javascript:alert(1)", False),
        ("/\\evil.example.org", False),
        ("/a\r\nSet-Cookie: x=y", False),
    ],
)
async def test_redirect(person: Person, target: str, followed: bool) -> None:
    """After a login the browser goes on only to pages of this server."""
    answer = await person.submit(key="K1", token="good", redirect=target)
    assert (answer["status"] == 303) is followed
    assert (answer["headers"].get("Location") == target) is followed


async def test_logout(person: Person) -> None:
    answer = await person.open(logout="true", close="true")
    assert all("Max-Age=0" in cookie for cookie in answer["headers"]["Set-Cookie"])


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"method": "POST", "body": b"x" * 100_000}, 413),
        ({"method": "POST", "body": None}, 400),
        ({"method": "POST", "body": b"\xff\xfe=\xff&key=K1"}, 400),
        ({"method": "POST", "body": b"key=K1&token=good&expires_in=soon"}, 400),
        ({"method": "POST", "body": "&".join(f"a{i}=b" for i in range(200))}, 400),
        ({"method": "GET", "query_string": "%ff=%00&key=%00"}, 400),
        ({}, 200),
    ],
)
async def test_odd_requests(person: Person, event: dict[str, Any], status: int) -> None:
    """Whatever is sent gets a page."""
    answer = await person.page.serve(event)
    assert answer["status"] == status
    assert "<main>" in answer["body"]
