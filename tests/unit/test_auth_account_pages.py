from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from hypha_auth.handover import Handover
from hypha_auth.login_flow import LoginFlow
from hypha_auth.pages.account_pages import AccountPages
from hypha_auth.pages.home_page import HomePage
from hypha_auth.pages.layout import Layout, Response
from hypha_auth.pages.login_page import LoginPage
from hypha_auth.repository import LoginSessions
from hypha_auth.token_desk import TokenDesk
from hypha_common.db import Database
from hypha_common.errors import NotFound
from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal
from hypha_common.revocation import RevokedTokens
from hypha_common.tokens import TokenCodec, VerifiedToken
from hypha_common.verifier import TokenVerifier
from tests.fixtures.auth import SECRET, HeardAudit, auth_database, auth_settings, nats_url, postgres
from tests.unit.accounts_support import Bench, bench_of

__all__ = ["auth_database", "auth_settings", "nats_url", "postgres"]

BASE = "https://hub.example.org"
EMAIL, PASSWORD = "ada@example.org", "correct horse"
EVIL = "\"><script>alert(1)</script>'--><img src=x onerror=alert(1)>"


class Deaf:
    """Wakes nobody: every login here is looked at afterwards."""

    def wake(self, key: str) -> None: ...


class Forms(HTMLParser):
    """The forms of a page, and whether anything on it is not ours."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.labels: set[str] = set()
        self.ids: list[str] = []
        self.inputs: list[str] = []
        self.described: set[str] = set()
        self.focused = 0
        self.handlers: list[str] = []
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.handlers += [name for name in given if name.startswith("on")]
        self.described |= set(given.get("aria-describedby", "").split())
        self.focused += "autofocus" in given
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "form":
            self.forms.append({})
        elif tag == "label" and "for" in given:
            self.labels.add(given["for"])
        elif tag in ("input", "textarea", "select") and self.forms and "name" in given:
            self.forms[-1][given["name"]] = given.get("value", "")
            if given.get("type") not in ("hidden", "checkbox"):
                self.inputs.append(given["id"])


class Browser:
    """Remembers cookies, fills in forms, and checks every page that it is shown."""

    def __init__(self, page: LoginPage) -> None:
        self._page = page
        self.cookies: dict[str, str] = {}
        self.answer: Response = {}
        self.headers = {"Sec-Fetch-Site": "same-origin", "Host": "hub.example.org"}

    async def open(self, query: str = "", **headers: str) -> Response:
        return await self._ask("GET", query, None, headers)

    async def send(self, action: str, headers: Mapping[str, str] | None = None, **fields: str) -> Response:
        """Send the form of the page in hand that does ``action``."""
        form = next(form for form in Forms(self.answer["body"]).forms if form.get("action") == action)
        return await self._ask("POST", "", urlencode({**form, **fields}).encode(), headers or {})

    async def post(self, fields: Mapping[str, str], **headers: str) -> Response:
        return await self._ask("POST", "", urlencode(fields).encode(), headers)

    async def _ask(self, method: str, query: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**self.headers, **headers, "Cookie": cookie}
        event = {"method": method, "query_string": query, "headers": sent, "body": body}
        self.answer = await self._page.serve(event, "10.0.0.1")
        for line in self.answer["headers"].get("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
            if not value:
                del self.cookies[name]
        if self.answer["status"] != 303:
            self._check(self.answer)
        return self.answer

    def _check(self, answer: Response) -> None:
        body, headers = answer["body"], answer["headers"]
        page = Forms(body)
        assert page.handlers == []
        assert set(page.inputs) <= page.labels
        assert len(page.ids) == len(set(page.ids))
        assert page.described <= set(page.ids)
        assert page.focused <= 1
        assert re.findall(r"<script(?! nonce=)", body) == []
        assert "script-src 'nonce-" in headers["Content-Security-Policy"]
        # A page that acts on one click in the name of whoever is logged in is never inside another one.
        actions = {form.get("action") for form in page.forms}
        if actions & {"continue", "generate", "password", "rename"}:
            assert headers["X-Frame-Options"] == "DENY"
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


class World:
    """The login page over a real database."""

    def __init__(self, database: Database, *, mail: bool) -> None:
        self.bench: Bench = bench_of(database, mail=mail, private=not mail)
        self.codec = TokenCodec(SECRET)
        self.verifier = TokenVerifier(self.codec, RevokedTokens())
        self.sessions = LoginSessions(database.home)
        audit: Any = HeardAudit()
        deaf: Any = Deaf()
        handover = Handover(sessions=self.sessions, codec=self.codec, judge=self.judge, owned=self.owned, waiters=deaf)
        flow = LoginFlow(handover=handover, layout=Layout(public_base_url=BASE), codec=self.codec, audit=audit)
        accounts = AccountPages(accounts=self.bench.accounts, flow=flow)
        home = HomePage(flow=flow, desk=TokenDesk(codec=self.codec, owned=self.owned, audit=audit), accounts=accounts)
        self.page = LoginPage(flow=flow, handover=handover, judge=self.judge, home=home, accounts=accounts)
        self.browser = Browser(self.page)

    def verify(self, token: str) -> VerifiedToken:
        return self.verifier.verify(token, None)

    async def judge(self, token: str) -> VerifiedToken:
        return self.verify(token)

    async def owned(self, user: Principal, workspace: str) -> Permission:
        raise NotFound(workspace)

    async def begin(self, workspace: str | None = None, expires_in: int | None = None) -> str:
        key = new_id()
        await self.sessions.create(key, workspace=workspace, expires_in=expires_in, life_s=60)
        return key

    async def member(self) -> Browser:
        """Somebody with an account and a browser that is not logged in."""
        signed_up = await self.bench.accounts.sign_up(EMAIL, PASSWORD, "Ada")
        await self.bench.accounts.verify_email(EMAIL, signed_up.code or self.bench.mailbox.code())
        return self.browser

    def who(self) -> VerifiedToken:
        return self.verify(self.browser.cookies["access_token"])


@pytest.fixture
async def world(auth_database: Database) -> AsyncIterator[World]:
    made = World(auth_database, mail=True)
    yield made
    made.bench.accounts.close()


@pytest.fixture
async def laptop(auth_database: Database) -> AsyncIterator[World]:
    made = World(auth_database, mail=False)
    yield made
    made.bench.accounts.close()


async def test_new_person(world: World) -> None:
    """From the address that a program prints to a token in it, with a mail between."""
    key, browser = await world.begin(), world.browser
    await browser.open(f"key={key}")
    assert "A program asks you to log in" in browser.answer["body"]
    await browser.open(f"key={key}&view=signup")
    await browser.send("signup", name="Ada", email=EMAIL, password=PASSWORD)
    assert browser.cookies == {}
    assert f"on its way to <strong>{EMAIL}</strong>" in browser.answer["body"]
    assert (await browser.send("verify", code="12 34 56"))["status"] == 400
    code = world.bench.mailbox.code()
    await browser.send("verify", code=f"{code[:3]} {code[3:]}")
    assert "You can close this window" in browser.answer["body"]
    session = await world.sessions.get(key)
    assert session is not None
    assert session.token == browser.cookies["access_token"]
    token = world.who()
    assert (token.principal.email, token.workspace) == (EMAIL, None)
    assert token.expires_at == pytest.approx(time.time() + 86400, abs=5)
    assert session.profile is not None
    assert (session.profile["name"], session.profile["email_verified"]) == ("Ada", True)


async def test_on_a_laptop(laptop: World) -> None:
    """Without a mail server signing up is logging in."""
    await laptop.browser.open("view=signup")
    await laptop.browser.send("signup", name="", email=EMAIL, password=PASSWORD)
    assert laptop.browser.answer["headers"]["Location"] == "/public/apps/hypha-login/"
    assert laptop.who().principal.email == EMAIL
    await laptop.browser.open()
    assert "You are logged in" in laptop.browser.answer["body"]
    assert "Forgot" not in (await laptop.browser.open("clear=true"))["body"]


async def test_verification_elsewhere(world: World) -> None:
    """Another browser, which has not seen the password, is not logged in by the code alone."""
    browser = world.browser
    await browser.open("view=signup")
    await browser.send("signup", name="Ada", email=EMAIL, password=PASSWORD)
    await browser.send("verify", code=world.bench.mailbox.code(), ticket="")
    assert browser.cookies == {}
    assert "Your address is verified" in browser.answer["body"]
    await browser.send("login", password=PASSWORD)
    assert world.who().principal.email == EMAIL


async def test_log_in_before_the_code(world: World) -> None:
    """Who comes back with the password only gets another mail, and is logged in when the code comes."""
    await world.bench.accounts.sign_up(EMAIL, PASSWORD)
    await world.browser.open()
    await world.browser.send("login", email=EMAIL, password=PASSWORD)
    await world.browser.send("resend")
    assert "Another code is on its way" in world.browser.answer["body"]
    assert len(world.bench.mailbox.mails) == 3
    await world.browser.send("verify", code=world.bench.mailbox.code())
    assert world.who().principal.email == EMAIL


async def test_wrong_password(world: World) -> None:
    browser = await world.member()
    await browser.open()
    answer = await browser.send("login", email=EMAIL, password="wrong password")
    assert answer["status"] == 401
    assert "Invalid email or password" in answer["body"]
    assert "wrong password" not in answer["body"]
    assert browser.cookies == {}


async def test_forgotten_password(world: World) -> None:
    browser = await world.member()
    await browser.open("view=forgot")
    await browser.send("forgot", email=EMAIL)
    await browser.send("reset", code=world.bench.mailbox.code(), password="another horse")
    assert world.who().principal.email == EMAIL
    assert len(world.bench.revoked) == 1


async def test_one_click(world: World) -> None:
    """A browser that is logged in need only agree; the program gets what it asked for, the browser keeps its own."""
    browser = await world.member()
    await browser.open()
    await browser.send("login", email=EMAIL, password=PASSWORD)
    mine = world.who()
    home = f"ws-user-{mine.principal.id}"
    key = await world.begin(home, 600)
    await browser.open(f"key={key}")
    assert f"Continue as {EMAIL}" in browser.answer["body"]
    assert "only, for 10 minutes" in browser.answer["body"]
    await browser.send("continue")
    session = await world.sessions.get(key)
    assert session is not None
    handed = world.verify(session.token or "")
    assert (handed.workspace, handed.principal.id) == (home, mine.principal.id)
    assert world.who() == mine
    assert "This login has ended" in (await browser.open(f"key={key}"))["body"]

    key = await world.begin("ws-foreign")
    await browser.open(f"key={key}")
    refused = await browser.send("continue")
    assert refused["status"] == 404
    assert "Continue as" in refused["body"]
    assert "Log in with a token" in (await browser.open(f"key={key}&clear=true"))["body"]


async def test_redirect_of_who_is_logged_in(world: World) -> None:
    browser = await world.member()
    await browser.open()
    await browser.send("login", email=EMAIL, password=PASSWORD)
    await browser.open("redirect=/ws-a/apps/x/")
    assert (await browser.send("continue"))["headers"]["Location"] == "/ws-a/apps/x/"
    await browser.open("redirect=//evil.example.org/")
    assert (await browser.send("continue"))["headers"]["Location"].startswith("/public/apps/hypha-login/")


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Dest": "iframe"}, {"Sec-Fetch-Dest": "embed"}])
async def test_inside_another_page(world: World, headers: dict[str, str]) -> None:
    """Embedded, the page asks for a password, whoever the browser is logged in as: a click can be stolen."""
    browser = await world.member()
    await browser.open()
    await browser.send("login", email=EMAIL, password=PASSWORD)
    key = await world.begin()
    answer = await browser.open(f"key={key}", **headers)
    assert "Continue as" not in answer["body"]
    assert "X-Frame-Options" not in answer["headers"]
    done = await browser.send("login", {**headers}, email=EMAIL, password=PASSWORD)
    assert f'{{"type": "hypha-login-complete", "key": "{key}"}}' in done["body"]


async def test_frames_of_known_origins(world: World) -> None:
    """Where pages of few origins may call the hub, only those may embed the page."""
    layout = Layout(public_base_url=BASE, frames=["https://app.example.org"])
    policy = layout.page("x", "", framed=True)["headers"]["Content-Security-Policy"]
    assert "frame-ancestors 'self' https://app.example.org;" in policy


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example.org"}],
)
async def test_forms_of_other_sites(world: World, headers: dict[str, str]) -> None:
    """Nobody else's page logs this browser in as somebody, or out of what it is, or acts in its name."""
    browser = await world.member()
    await browser.open()
    await browser.send("login", email=EMAIL, password=PASSWORD)
    mine = world.who()
    if "Origin" in headers:
        browser.headers.pop("Sec-Fetch-Site")
    key = await world.begin()
    for fields in [
        {"action": "login", "email": EMAIL, "password": PASSWORD},
        {"action": "continue", "key": key},
        {"action": "generate", "workspace": ""},
        {"action": "password", "current_password": PASSWORD, "new_password": "another one"},
    ]:
        answer = await browser.post(fields, **headers)
        assert answer["status"] == 403
        assert "Set-Cookie" not in answer["headers"]
    assert world.who() == mine
    session = await world.sessions.get(key)
    assert session is not None
    assert session.token is None


async def test_own_forms_without_fetch_metadata(world: World) -> None:
    """In a network without TLS, and by a name that nobody has configured, browsers tell the origin only."""
    browser = await world.member()
    browser.headers = {"Host": "hub.local:9527", "Origin": "http://hub.local:9527"}
    await browser.open()
    await browser.send("login", email=EMAIL, password=PASSWORD)
    assert world.who().principal.email == EMAIL


async def test_home(world: World) -> None:
    """Name, password, a token for a program, and the way out."""
    browser = await world.member()
    await browser.open()
    await browser.send("login", email=EMAIL, password=PASSWORD)
    me = world.who().principal.id
    assert me in (await browser.open())["body"]
    await browser.send("rename", name="Countess <Lovelace>")
    assert "Countess &lt;Lovelace&gt;" in browser.answer["body"]

    await browser.send("generate", permission="read", expires_in="86400")
    found = re.search(r"<textarea[^>]*>\s*(\S+)</textarea>", browser.answer["body"])
    assert found
    token = world.verify(found[1])
    assert (token.principal.parent, token.workspace) == (me, f"ws-user-{me}")
    assert token.principal.permission(f"ws-user-{me}") is Permission.READ
    assert token.expires_at == pytest.approx(time.time() + 86400, abs=5)
    await browser.open()
    for fields in ({"workspace": "ws-foreign"}, {"permission": "everything"}, {"expires_in": "soon"}):
        assert (await browser.send("generate", **fields))["status"] in (400, 403)

    await browser.open()
    assert (await browser.send("password", current_password="wrong", new_password="another horse"))["status"] == 401
    before = browser.cookies["access_token"]
    await browser.send("password", current_password=PASSWORD, new_password="another horse")
    assert "Your password is changed" in browser.answer["body"]
    assert world.bench.revoked == [(world.verify(before).origins[0], me)]
    assert world.who().origins != world.verify(before).origins
    assert (await browser.post({"action": "fly"}))["status"] == 400

    assert "Your password" not in (await browser.open("logout=true"))["body"]
    assert browser.cookies == {"hypha_version": browser.cookies["hypha_version"]}
    assert "Email" in (await browser.open())["body"]


async def test_lesser_tokens_change_nothing(world: World) -> None:
    """A program that was given a token for one workspace cannot change the password of its person."""
    browser = await world.member()
    await browser.open()
    await browser.send("login", email=EMAIL, password=PASSWORD)
    me = world.who().principal.id
    key = await world.begin(f"ws-user-{me}")
    await browser.open(f"key={key}")
    await browser.send("continue")
    session = await world.sessions.get(key)
    assert session is not None
    browser.cookies["access_token"] = session.token or ""
    assert "Change your password" not in (await browser.open())["body"]
    answer = await browser.post({"action": "password", "current_password": PASSWORD, "new_password": "another horse"})
    assert answer["status"] == 400
    await world.bench.accounts.log_in(EMAIL, PASSWORD)


async def test_not_logged_in(world: World) -> None:
    for action in ("continue", "generate", "password", "rename"):
        assert (await world.browser.post({"action": action}))["status"] == 401


@pytest.mark.parametrize("close", ["", "&close=false", "&close=true", "&close_after_logout=true"])
async def test_close(world: World, close: str) -> None:
    """After a login the window closes unless it was asked not to; after a logout if it was asked to."""
    key, browser = await world.begin(), await world.member()
    await browser.open(f"key={key}{close}")
    done = await browser.send("login", email=EMAIL, password=PASSWORD)
    assert ("window.close()" in done["body"]) is (close != "&close=false")
    assert "postMessage" in done["body"]
    out = await browser.open(f"logout=true{close}")
    assert ("window.close()" in out["body"]) is (close in ("&close=true", "&close_after_logout=true"))


async def test_too_late(world: World) -> None:
    """Whoever took too long is told so, and is logged in for the next time."""
    key, browser = await world.begin(), await world.member()
    await browser.open(f"key={key}")
    await world.sessions.complete(key, "t", {})
    await world.sessions.take(key)
    answer = await browser.send("login", email=EMAIL, password=PASSWORD)
    assert answer["status"] == 400
    assert "This login has ended" in answer["body"]
    assert world.who().principal.email == EMAIL


async def test_who_asks(world: World) -> None:
    """The page tells where it was opened from, and remembers that over a wrong password; without paths or keys."""
    key, browser = await world.begin(), await world.member()
    answer = await browser.open(f"key={key}", Referer="https://lab.example.org/secret?token=1")
    assert "from a page of <strong>https://lab.example.org</strong>" in answer["body"]
    again = await browser.send("login", {"Referer": f"{BASE}/x"}, email=EMAIL, password="wrong password")
    assert "from a page of <strong>https://lab.example.org</strong>" in again["body"]
    assert "from a page of" not in (await browser.open(f"key={key}", Referer=f"{BASE}/"))["body"]


_TEXTS = ("name", "email", "password", "code", "ticket", "opener", "token", "workspace", "permission", "expires_in")
_PARAMETERS = ("key", "workspace", "expires_in", "redirect", "view", "close", "clear")


async def test_scripts_in_every_field(world: World) -> None:
    """Whatever is typed or stands in the address is text on the page."""
    key, browser = await world.begin(workspace=EVIL), world.browser
    for parameter in _PARAMETERS:
        query = dict(parse_qsl(f"key={key}")) | {parameter: EVIL}
        assert "<script>alert" not in (await browser.open(urlencode(query), Referer=f"https://a.b/{EVIL}"))["body"]
    for action in ("login", "signup", "verify", "resend", "forgot", "reset", "token", "continue", "generate", EVIL):
        for field in (*_TEXTS, *_PARAMETERS):
            answer = await browser.post({"key": key, "action": action, "email": EMAIL, "password": "x", field: EVIL})
            assert "<script>alert" not in answer["body"]
            assert "onerror=alert(1)>" not in answer["body"]


async def test_scripts_in_an_account(world: World) -> None:
    await world.bench.accounts.sign_up(EMAIL, PASSWORD, EVIL)
    await world.bench.accounts.verify_email(EMAIL, world.bench.mailbox.code())
    await world.browser.open()
    await world.browser.send("login", email=EMAIL, password=PASSWORD)
    assert "&lt;script&gt;" in (await world.browser.open())["body"]


@pytest.mark.parametrize("key", ["x" * 3000, "\x00", "..%2f", "a b", "' OR 1=1", "\ud800", "K" * 64])
async def test_hostile_keys(world: World, key: str) -> None:
    """A key that is none is an ended login, whatever it looks like; without effect on the browser."""
    browser = await world.member()
    query = urlencode({"key": key}, errors="surrogatepass")
    for answer in (
        await browser.open(query),
        await browser.post({"action": "token", "key": key.encode("utf-8", "replace").decode(), "token": "x"}),
    ):
        assert answer["status"] in (200, 400)
        assert urlsplit(answer["headers"].get("Location", "")).netloc == ""
    assert browser.cookies == {}
