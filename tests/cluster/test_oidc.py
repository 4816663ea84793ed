"""A hub whose people log in at an OpenID Connect provider: two gateways, two replicas of every service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import refused
from tests.fixtures.errors_told import told
from tests.fixtures.oidc import AUDIENCE, OidcHub, Visitor

pytestmark = pytest.mark.node


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


@pytest.fixture
async def visitor(oidc_hub: OidcHub) -> AsyncIterator[Visitor]:
    visitor = Visitor(oidc_hub.cluster.url)
    yield visitor
    await visitor.http.aclose()


async def begin(http: httpx.AsyncClient, hub: OidcHub, **arguments: object) -> dict[str, str]:
    answer = await http.post(f"{hub.cluster.url}/public/services/hypha-login/start", json=arguments)
    started: dict[str, str] = answer.json()
    return started


async def button(http: httpx.AsyncClient, url: str) -> str:
    """Open a login page and return where its button leads."""
    page = await http.get(url)
    link = re.search(r'href="([^"]*oidc/start[^"]*)"[^>]*>Continue with Example ID<', page.text)
    assert link is not None, page.text
    return str(page.url.join(unescape(link[1])))


async def test_login(oidc_hub: OidcHub, http: httpx.AsyncClient, visitor: Visitor) -> None:
    """The program gets the token of whoever logged in, whichever gateway the browser comes back to."""
    started = await begin(http, oidc_hub)
    check = f"{oidc_hub.cluster.url}/public/services/hypha-login/check"
    waiting = asyncio.create_task(http.post(check, json={"key": started["key"], "timeout": 20, "profile": True}))
    back = await visitor.log_in(await button(visitor.http, started["login_url"]), "github|ada")
    first, second = oidc_hub.cluster.gateway_urls
    done = await visitor.http.get(back.replace(first, second))
    assert done.status_code == 200
    assert "You are logged in" in done.text
    profile = (await waiting).json()
    assert profile["user_id"] == "github|ada"
    assert (profile["email"], profile["email_verified"]) == ("github.ada@example.org", True)
    assert profile["name"] == "github|ada of Example"
    async with connect_to_server({"server_url": first, "token": profile["token"]}) as server:
        assert server.config.workspace == "ws-user-github|ada"
        assert server.config.user["email"] == "github.ada@example.org"
    # The browser is logged in, too.
    config = await visitor.http.get(f"{first}/assets/config.json")
    assert config.json()["user"]["id"] == "github|ada"
    # What the provider sent the browser with is of no further use.
    again = await visitor.http.get(back)
    assert again.status_code == 400
    assert "completed already" in again.text


async def test_login_for_one_workspace(oidc_hub: OidcHub, http: httpx.AsyncClient, visitor: Visitor) -> None:
    started = await begin(http, oidc_hub, workspace="ws-user-grace", expires_in=600)
    done = await visitor.http.get(await visitor.log_in(await button(visitor.http, started["login_url"]), "grace"))
    assert done.status_code == 200
    check = f"{oidc_hub.cluster.url}/public/services/hypha-login/check"
    token = (await http.post(check, json={"key": started["key"], "timeout": 5})).json()
    async with connect_to_server({"server_url": oidc_hub.cluster.url, "token": token}) as server:
        claims = await server.parse_token(token)
        assert claims["scope"]["current_workspace"] == "ws-user-grace"


async def test_refused(oidc_hub: OidcHub, http: httpx.AsyncClient, visitor: Visitor) -> None:
    """Who says no at the provider is told so, finds the way back, and may still say yes."""
    started = await begin(http, oidc_hub)
    way = await button(visitor.http, started["login_url"])
    answer = await visitor.http.get(await visitor.refuse(way))
    assert answer.status_code == 401
    assert "You were not logged in: Example ID was not allowed to tell who you are." in answer.text
    assert f'href="/public/apps/hypha-login/?key={started["key"]}"' in answer.text
    done = await visitor.http.get(await visitor.log_in(await button(visitor.http, started["login_url"]), "hopper"))
    assert "You are logged in" in done.text


async def test_nobody_is_sent_there_unseen(oidc_hub: OidcHub, http: httpx.AsyncClient) -> None:
    """A link on another site leads to the page with the button, not through it."""
    started = await begin(http, oidc_hub)
    way = await button(http, started["login_url"])
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
        {"referer": "https://evil.example"},
        {},
    ):
        answer = await http.get(way, headers=headers)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/public/apps/hypha-login/?key={started['key']}"
    # Without TLS browsers tell by the referrer only.
    answer = await http.get(way, headers={"referer": started["login_url"]})
    assert answer.headers["location"].startswith(f"{oidc_hub.provider.issuer}/auth?")


async def test_logout(oidc_hub: OidcHub, visitor: Visitor) -> None:
    """Forgetting the hub's token does not end the provider's login: the page leads there."""
    http = visitor.http
    await visitor.log_in(await button(http, f"{oidc_hub.cluster.url}/public/apps/hypha-login/"), "kay")
    page = await http.get(f"{oidc_hub.cluster.url}/public/apps/hypha-login/?logout=true")
    assert 'href="/public/apps/hypha-login/oidc/logout"' in page.text
    answer = await http.get(f"{oidc_hub.cluster.url}/public/apps/hypha-login/oidc/logout")
    assert answer.status_code == 303
    shown = await http.get(answer.headers["location"])
    assert shown.status_code == 200
    assert "Do you want to sign-out" in shown.text


async def test_access_token_of_the_issuer(oidc_hub: OidcHub, http: httpx.AsyncClient) -> None:
    """It is good for HTTP and for websockets at every gateway; one for somebody else is not."""
    token = oidc_hub.provider.machine_token("auth0|machine")
    other = oidc_hub.provider.machine_token("auth0|machine", audience="https://else.example.org")
    for url in oidc_hub.cluster.gateway_urls:
        config = await http.get(f"{url}/assets/config.json", headers={"authorization": f"Bearer {token}"})
        assert config.json()["user"]["id"] == "auth0|machine"
        answer = await http.get(f"{url}/assets/config.json", headers={"authorization": f"Bearer {other}"})
        assert answer.status_code == 401
    async with connect_to_server({"server_url": oidc_hub.cluster.url, "token": token}) as server:
        assert server.config.workspace == "ws-user-auth0|machine"
        assert (await server.parse_token(token))["email"] == "auth0.machine@example.org"
    assert "Invalid token claims" in await refused(oidc_hub.cluster.url, token=other)


async def test_revoked_access_token(oidc_hub: OidcHub, http: httpx.AsyncClient) -> None:
    token, revoked = oidc_hub.provider.machine_token(), oidc_hub.provider.machine_token()
    async with connect_to_server({"server_url": oidc_hub.cluster.url, "token": token}) as server:
        await server.revoke_token(revoked)
        with pytest.raises(Exception, match="Token has been revoked"):
            await server.parse_token(revoked)
    for url in oidc_hub.cluster.gateway_urls:
        answer = await http.get(f"{url}/assets/config.json", headers={"authorization": f"Bearer {revoked}"})
        assert answer.status_code == 401
        assert told(answer) == {"detail": "Token has been revoked"}


async def test_oauth_endpoints(oidc_hub: OidcHub, http: httpx.AsyncClient, visitor: Visitor) -> None:
    """Other clients of the provider may talk to it by way of the hub."""
    hub = oidc_hub.cluster.url
    answer = await http.get(f"{hub}/oauth/authorize?client_id=hub&scope=openid%20email&a=1&a=2")
    assert answer.status_code == 307
    assert answer.headers["location"] == f"{oidc_hub.provider.issuer}/auth?client_id=hub&scope=openid%20email&a=1&a=2"

    form = {"grant_type": "client_credentials", "resource": AUDIENCE, "scope": "openid"}
    basic = httpx.BasicAuth("nobody", "wrong")
    answer = await http.post(f"{hub}/oauth/token", data=form, auth=basic)
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert answer.headers["cache-control"] == "no-store"

    # A code that our own, public client was given: the hub names the client where none is named.
    verifier = "v" * 43
    query = {
        "client_id": "hub",
        "response_type": "code",
        "scope": "openid",
        "redirect_uri": f"{hub}/public/apps/hypha-login/oidc/callback",
        "code_challenge": "7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM",  # SHA-256 of the verifier
        "code_challenge_method": "S256",
    }
    back = await visitor.log_in(f"{hub}/oauth/authorize?{httpx.QueryParams(query)}", "lovelace")
    code = parse_qs(urlsplit(back).query)["code"][0]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": query["redirect_uri"],
    }
    answer = await http.post(f"{hub}/oauth/token", data=form)
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    config = await http.get(f"{hub}/assets/config.json", headers={"authorization": f"Bearer {token}"})
    assert config.json()["user"]["id"] == "lovelace"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=\xff", "application/x-www-form-urlencoded", 415),
        (b"a" * 70000, "application/x-www-form-urlencoded", 413),
        (b"", "application/x-www-form-urlencoded", 400),
    ],
)
async def test_bad_token_requests(
    oidc_hub: OidcHub, http: httpx.AsyncClient, content: bytes, kind: str, status: int
) -> None:
    url = f"{oidc_hub.cluster.url}/oauth/token"
    answer = await http.post(url, content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()


async def test_without_a_provider(cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    sentence = {"success": False, "detail": "No identity provider is configured on this server"}
    form = {"grant_type": "client_credentials"}
    for answer in (
        await http.get(f"{cluster.url}/oauth/authorize"),
        await http.post(f"{cluster.url}/oauth/token", data=form),
    ):
        assert answer.status_code == 404
        assert told(answer) == sentence
    page = await http.get(f"{cluster.url}/public/apps/hypha-login/")
    assert "Continue with" not in page.text
