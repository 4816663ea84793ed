from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from hypha_auth.handover import Handover
from hypha_auth.login import Login
from hypha_auth.login_flow import LoginFlow
from hypha_auth.pages.home_page import HomePage
from hypha_auth.pages.layout import Layout
from hypha_auth.pages.login_page import LoginPage
from hypha_auth.repository import LoginSessions
from hypha_auth.token_desk import TokenDesk
from hypha_auth.waiters import Waiters
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import HyphaError, PermissionDenied, Unavailable
from hypha_common.ids import Address
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.revocation import RevokedTokens
from hypha_common.rpc.caller import Caller
from hypha_common.tokens import TokenCodec, VerifiedToken
from hypha_common.verifier import RootToken, TokenVerifier
from tests.fixtures.auth import (
    ROOT_TOKEN,
    SECRET,
    HeardAudit,
    auth_database,
    auth_settings,
    bus,
    nats_url,
    postgres,
    start_bus,
)

__all__ = ["auth_database", "auth_settings", "bus", "nats_url", "postgres"]

CODEC = TokenCodec(SECRET)
VERIFIER = TokenVerifier(CODEC, RevokedTokens())
ALICE = Principal(id="alice", email="alice@example.org", scope=Scope({"ws-a": Permission.READ_WRITE}))
ALICE_AT_HOME = ALICE.with_scope(workspaces={"ws-user-alice": Permission.ADMIN})
BASE = "http://hub.example.org"


def verify(token: str) -> VerifiedToken:
    return RootToken(ROOT_TOKEN).verify(token) or VERIFIER.verify(token, None)


async def judge(token: str) -> VerifiedToken:
    return verify(token)


async def owned(user: Principal, workspace: str) -> Permission:
    if (user.id, workspace) != ("alice", "ws-mine"):
        raise PermissionDenied(f"{user.id} has no permission to access {workspace}")
    return Permission.ADMIN


def token_of(principal: Principal = ALICE, life_s: float = 60, **scope: Any) -> str:
    return CODEC.sign(principal.with_scope(**scope), life_s=life_s)


async def login_at(bus: Bus, database: Database, life_s: float = 30) -> Login:
    waiters = Waiters(bus)
    await waiters.start()
    await bus.flush()
    sessions = LoginSessions(database.home)
    handover = Handover(sessions=sessions, codec=CODEC, judge=judge, owned=owned, waiters=waiters)
    audit: Any = HeardAudit()
    flow = LoginFlow(handover=handover, layout=Layout(public_base_url=BASE), codec=CODEC, audit=audit)
    desk = TokenDesk(codec=CODEC, owned=owned, audit=audit)
    page = LoginPage(flow=flow, handover=handover, judge=judge, home=HomePage(flow=flow, desk=desk))
    return Login(
        sessions=sessions,
        handover=handover,
        page=page,
        desk=desk,
        waiters=waiters,
        public_base_url=BASE,
        life_s=life_s,
    )


@pytest.fixture
async def login(bus: Bus, auth_database: Database) -> Login:
    return await login_at(bus, auth_database)


@pytest.fixture
async def other(nats_url: str, auth_database: Database) -> AsyncIterator[Login]:
    """Another replica."""
    second = await start_bus(nats_url, "auth")
    yield await login_at(second, auth_database)
    await second.close()


async def fails(call: Any) -> str:
    with pytest.raises(HyphaError) as caught:
        await call
    return caught.value.rpc_text()


async def test_start(login: Login) -> None:
    """The answer of contract 01 §4.5; both wishes stand in the address."""
    started = await login.start()
    key = started["key"]
    assert len(key) == 22
    assert started == {
        "login_url": f"{BASE}/public/apps/hypha-login/?key={key}",
        "key": key,
        "report_url": f"{BASE}/public/services/hypha-login/report",
        "check_url": f"{BASE}/public/services/hypha-login/check",
        "generate_url": f"{BASE}/public/services/hypha-login/generate",
    }
    started = await login.start("ws-a", "60")
    assert parse_qs(urlsplit(started["login_url"]).query) == {
        "key": [started["key"]],
        "workspace": ["ws-a"],
        "expires_in": ["60"],
    }


async def test_through(login: Login) -> None:
    """The program gets the very token that the person has, once."""
    key = (await login.start())["key"]
    assert await login.check(key, 0) is None
    token = token_of()
    assert await login.report(key, token) is None
    assert await login.check(key, 0) == token
    assert await fails(login.check(key, 0)) == "AssertionError: Invalid key, key does not exist"


async def test_profile(login: Login) -> None:
    """With a profile, what the page said and else what the token says."""
    key = (await login.start())["key"]
    token = token_of()
    await login.report(key, token, name="Alice", picture="", email_verified=True)
    assert await login.check(key, 0, profile=True) == {
        "token": token,
        "workspace": None,
        "expires_in": None,
        "email": "alice@example.org",
        "email_verified": True,
        "name": "Alice",
        "nickname": None,
        "user_id": "alice",
        "picture": None,
    }


async def test_other_replicas(login: Login, other: Login) -> None:
    """Each step may reach another replica; one that waits learns of it at once."""
    key = (await login.start())["key"]
    waiting = asyncio.create_task(login.check(key, 10))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    token = token_of()
    await other.report(key, token)
    assert await waiting == token
    assert time.monotonic() - started < 1.0


async def test_timeout(login: Login) -> None:
    key = (await login.start())["key"]
    assert await fails(login.check(key, 0.1)) == "Exception: Login timeout, waited for 0.1 seconds"
    assert await fails(login.check(key, timeout=1)) == "Exception: Login timeout, waited for 1 seconds"


async def test_workspace(login: Login) -> None:
    """A token for a workspace is limited to it, wherever the wish was uttered."""
    for start, report in [((), ("ws-a", 60)), (("ws-a", 60), ()), (("ws-x", 999), ("ws-a", "60"))]:
        key = (await login.start(*start))["key"]
        await login.report(key, token_of(), *report)
        handed = CODEC.verify(await login.check(key, 0))
        assert handed.workspace == "ws-a"
        assert handed.principal.id == "alice"
        assert handed.principal.scope.workspaces == {"ws-a": Permission.READ_WRITE}
        assert handed.expires_at == pytest.approx(time.time() + 60, abs=3)


async def test_owner_without_a_grant(login: Login) -> None:
    """What the record of the workspace grants is written into the token; who is no owner gets none."""
    key = (await login.start("ws-mine"))["key"]
    await login.report(key, token_of())
    handed = CODEC.verify(await login.check(key, 0))
    assert handed.workspace == "ws-mine"
    assert handed.principal.scope.workspaces == {"ws-mine": Permission.ADMIN}
    assert handed.expires_at == pytest.approx(time.time() + 3600, abs=5)
    key = (await login.start("ws-foreign"))["key"]
    error = await fails(login.report(key, token_of()))
    assert error == "PermissionError: alice has no permission to access ws-foreign"


async def test_limited_tokens_stay_limited(login: Login) -> None:
    """A token for one workspace, or a child's, does not log its bearer in elsewhere, nor for longer."""
    bound = token_of(current_workspace="ws-a")
    child = token_of(
        Principal(id="teal-x-00000001", parent="alice", scope=Scope({"ws-a": Permission.READ})),
        current_workspace="ws-a",
    )
    for token in (bound, child):
        key = (await login.start())["key"]
        error = await fails(login.report(key, token, workspace="ws-user-alice"))
        assert error.startswith("ValueError: Invalid token provided to report_login: ")
        await login.report(key, token, workspace="ws-a", expires_in=10**9)
        handed = CODEC.verify(await login.check(key, 0))
        assert handed.expires_at == pytest.approx(time.time() + 60, abs=3)
        assert handed.principal.permission("ws-user-alice") is Permission.NONE


async def test_revoking_the_persons_token(login: Login) -> None:
    """What was derived from a token falls with it."""
    token = token_of()
    key = (await login.start("ws-a"))["key"]
    await login.report(key, token)
    assert CODEC.verify(await login.check(key, 0)).origins == (CODEC.verify(token).token_id,)


async def test_root_token_stays_here(login: Login) -> None:
    """The root token is exchanged: it has no end, and a session's row is no place for it."""
    key = (await login.start())["key"]
    await login.report(key, ROOT_TOKEN)
    handed = await login.check(key, 0)
    verified = CODEC.verify(handed)
    assert (verified.principal.id, verified.workspace) == ("root", "ws-user-root")
    assert verified.principal.is_admin
    assert verified.expires_at is not None
    key = (await login.start("ws-a"))["key"]
    await login.report(key, ROOT_TOKEN)
    limited = CODEC.verify(await login.check(key, 0)).principal
    assert limited.permission("ws-a") is Permission.ADMIN
    assert limited.permission("ws-b") is Permission.NONE


@pytest.mark.parametrize(
    "token",
    [
        "rubbish",
        "",
        TokenCodec("another secret of thirty-two bytes").sign(ALICE, life_s=60),
        CODEC.reconnection_token(ALICE, "ws-a", "c", 1, 60),
    ],
)
async def test_bad_tokens(login: Login, token: str) -> None:
    key = (await login.start())["key"]
    error = await fails(login.report(key, token))
    assert error.startswith("ValueError: Invalid token provided to report_login: ")
    assert await login.check(key, 0) is None


@pytest.mark.parametrize("key", ["nokey", "", "a\x00b", "\ud800", "x" * 1000, "' OR 1=1 --"])
async def test_unknown_keys(login: Login, key: str) -> None:
    assert await fails(login.check(key, 0)) == "AssertionError: Invalid key, key does not exist"
    assert await fails(login.check(key)) == "AssertionError: Invalid key, key does not exist"
    assert await fails(login.report(key, token_of())) == "AssertionError: Invalid key, key does not exist"


async def test_odd_wishes(login: Login) -> None:
    assert (await fails(login.start(expires_in=0))).startswith("AssertionError: expires_in should be greater than 0")
    assert (await fails(login.start(expires_in="soon"))).startswith("ValueError: expires_in")
    for workspace in ("a\x00", "\ud800", "x" * 300):
        assert (await fails(login.start(workspace))).startswith("ValueError: Invalid workspace")
    assert (await login.start("", ""))["login_url"].count("=") == 1
    key = (await login.start())["key"]
    assert (await fails(login.report(key, token_of(), name="\ud800"))).startswith("ValueError: A claim")


async def test_completed_once(login: Login) -> None:
    """The first one who logs in does; nobody changes that afterwards."""
    key = (await login.start())["key"]
    first = token_of()
    await login.report(key, first)
    assert await fails(login.report(key, token_of())) == "RuntimeError: This login is already completed"
    assert await login.check(key, 0) == first


async def test_too_late(bus: Bus, auth_database: Database) -> None:
    """A session that has ended is unknown, also to one that is waiting for it."""
    login = await login_at(bus, auth_database, life_s=0.2)
    key = (await login.start())["key"]
    assert await fails(login.check(key, 30)) == "AssertionError: Invalid key, key does not exist"
    assert await fails(login.report(key, token_of())) == "AssertionError: Invalid key, key does not exist"


async def test_database_restarts_while_waiting(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits goes on waiting while the database is away; whoever does not is told."""
    key = (await login.start())["key"]
    take, failures = LoginSessions.take, 1

    async def flaky(self: LoginSessions, key: str) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise Unavailable("The database is not available")
        return await take(self, key)

    monkeypatch.setattr(LoginSessions, "take", flaky)
    waiting = asyncio.create_task(login.check(key, 10))
    await asyncio.sleep(0.05)
    await login.report(key, token_of())
    assert await waiting
    failures = 1
    with pytest.raises(Unavailable):
        await login.check(key, 0)


async def test_page(login: Login) -> None:
    """A person completes the login on the page, without any script."""
    started = await login.start("ws-a")
    query = urlsplit(started["login_url"]).query
    page = await login.index({"method": "GET", "query_string": query, "headers": {}, "body": None})
    assert started["key"] in page["body"]
    form = urlencode({"key": started["key"], "workspace": "ws-a", "token": token_of()}).encode()
    done = await login.index({"method": "POST", "query_string": "", "headers": {}, "body": form})
    assert done["status"] == 200
    assert CODEC.verify(await login.check(started["key"], 0)).workspace == "ws-a"
    again = await login.index({"method": "POST", "query_string": "", "headers": {}, "body": form})
    assert again["status"] == 400


def caller(principal: Principal) -> Caller:
    here = Address("ws-user-x", "program")
    return Caller(principal=principal, workspace="ws-user-x", sender=here, target=here, method="x")


async def test_generate(login: Login) -> None:
    """Whoever has logged in gets tokens for programs, for what is theirs."""
    token = CODEC.verify(await login.generate(context=caller(ALICE_AT_HOME)))
    assert (token.workspace, token.principal.parent) == ("ws-user-alice", "alice")
    config = {"workspace": "ws-mine", "permission": "read", "expires_in": 60}
    token = CODEC.verify(await login.generate(config, context=caller(ALICE_AT_HOME)))
    assert token.principal.scope.workspaces == {"ws-mine": Permission.READ}
    for principal, config in [
        (ALICE_AT_HOME, {"workspace": "ws-foreign"}),
        (Principal(id="anonymouz-x", is_anonymous=True, roles=("anonymous",)), {}),
        (replace(ALICE, parent="bob"), {"workspace": "ws-mine"}),
    ]:
        assert (await fails(login.generate(config, context=caller(principal)))).startswith("PermissionError: ")
    assert await fails(login.generate()) == "PermissionError: Log in first"


async def test_profile_and_logout(login: Login) -> None:
    page = f"{BASE}/public/apps/hypha-login/"
    assert (await login.profile({}))["headers"]["Location"] == page
    assert await login.profile(context=caller(ALICE)) == {
        "success": True,
        "user_id": "alice",
        "email": "alice@example.org",
        "roles": [],
        "is_anonymous": False,
    }
    assert await login.logout() == {"logout_url": f"{page}?logout=true&close=true"}
