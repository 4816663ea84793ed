from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server
from playwright.async_api import Browser

from hypha_common.ids import new_id
from tests.cluster.operations import until
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.people import sign_up

SERVICE = "/public/services/hypha-login"
PASSWORD = "correct horse"


def _email() -> str:
    return f"{new_id(10)}@example.org".lower()


def _address() -> dict[str, str]:
    """Headers of a request from an address that nobody else here has."""
    return {"X-Forwarded-For": f"203.0.{secrets.randbelow(256)}.{secrets.randbelow(256)}"}


@pytest.fixture
async def http(cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=20, headers=_address()) as client:
        yield client


async def _call(http: httpx.AsyncClient, method: str, token: str = "", **arguments: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await http.post(f"{SERVICE}/{method}", json=arguments, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_answers(http: httpx.AsyncClient) -> None:
    """The shapes and the words of contract 01 §4.7, always with status 200."""
    email = _email()
    short = await _call(http, "signup", name="Ada", email=email, password="short")
    assert short == {"success": False, "error": "Password must be at least 8 characters"}
    new = await _call(http, "signup", name="Ada", email=email, password=PASSWORD)
    code = new.pop("dev_code")
    assert new == {"success": True, "verification_required": True, "email": email}
    pending = await _call(http, "login", email=email, password=PASSWORD)
    assert (pending["success"], pending["verification_required"]) == (False, True)
    wrong = await _call(http, "verify_email", email=email, code=f"{(int(code) + 1) % 10**6:06d}")
    assert wrong == {"success": False, "error": "Invalid or expired verification code"}
    code = (await _call(http, "resend_code", email=email))["dev_code"]
    verified = await _call(http, "verify_email", email=email, code=code)
    user_id = verified.pop("user_id")
    assert verified == {"success": True, "email_verified": True}
    taken = await _call(http, "signup", name="Eve", email=email.upper(), password=PASSWORD)
    assert taken == {"success": False, "error": "Email already registered"}
    wrong = await _call(http, "login", email=email, password="wrong password")
    assert wrong == {"success": False, "error": "Invalid email or password"}
    login = await _call(http, "login", email=email, password=PASSWORD)
    token = login.pop("token")
    assert login == {"success": True, "user_id": user_id, "email": email, "workspace": f"ws-user-{user_id}"}
    profile = (await http.get(f"{SERVICE}/profile", headers={"X-Local-Auth": token})).json()
    assert (profile["user_id"], profile["name"], profile["email_verified"]) == (user_id, "Ada", True)


async def test_places_of_a_token(http: httpx.AsyncClient) -> None:
    """The header and the cookie of local accounts, and all others besides."""
    known = await sign_up(str(http.base_url), _email(), PASSWORD)
    token, own = known["token"], f"/{known['workspace']}/info"
    for headers in (
        {"X-Local-Auth": token},
        {"Cookie": f"hypha_local_token={token}"},
        {"Authorization": f"Bearer {token}"},
        {"Cookie": f"access_token={token}"},
    ):
        assert (await http.get(own, headers=headers)).status_code == 200, headers
    assert (await http.get(own)).status_code == 403
    assert (await http.get(own, headers={"X-Local-Auth": "rubbish"})).status_code == 401


async def test_token_connects(cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    known = await sign_up(cluster.url, _email(), PASSWORD)
    async with connect_to_server({"server_url": cluster.url, "token": known["token"]}) as server:
        assert server.config.workspace == known["workspace"]
        assert server.config.user["email"] == known["email"]
        assert server.config.user["roles"] == ["user"]
        workspace = await server.create_workspace({"name": f"made-by-{new_id(6)}".lower()})
        limited = await _call(http, "login", email=known["email"], password=PASSWORD, workspace=workspace["id"])
        assert limited["workspace"] == workspace["id"]
    async with connect_to_server({"server_url": cluster.url, "token": limited["token"]}) as server:
        assert server.config.workspace == workspace["id"]
    foreign = await _call(http, "login", email=known["email"], password=PASSWORD, workspace="ws-user-root")
    assert not foreign["success"]


async def test_login_with_a_key(http: httpx.AsyncClient) -> None:
    """A page of one's own may complete a login by the method alone."""
    known = await sign_up(str(http.base_url), _email(), PASSWORD)
    started = (await http.post(f"{SERVICE}/start", json={"expires_in": 60})).json()
    answer = await _call(http, "login", email=known["email"], password=PASSWORD, key=started["key"])
    handed = (await http.post(f"{SERVICE}/check", json={"key": started["key"], "timeout": 0})).json()
    assert handed == answer["token"]
    again = await _call(http, "login", email=known["email"], password=PASSWORD, key=started["key"])
    assert again == {"success": False, "error": "Invalid key, key does not exist"}


async def test_only_oneself(cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """Name and password change for the person, and for root; for nobody else, a program of the person included."""
    ada, eve = await sign_up(cluster.url, _email(), PASSWORD), await sign_up(cluster.url, _email(), PASSWORD)
    change = {"user_email": ada["email"], "name": "Mallory"}
    refused = {"success": False, "error": "Permission denied: log in to this account first"}
    async with connect_to_server({"server_url": cluster.url, "token": ada["token"]}) as server:
        program = await server.generate_token({"permission": "admin"})
        login = await server.get_service("public/hypha-login")
        assert (await login.profile())["name"] == "Ada"
    for token in ("", eve["token"], program):
        assert await _call(http, "update_profile", token, **change) == refused
    for token in ("", program):
        passwords = {"current_password": PASSWORD, "new_password": "of the program"}
        assert await _call(http, "change_password", token, **passwords) == refused
    nobody = {"user_email": "nobody@example.org", "name": "x"}
    assert await _call(http, "update_profile", ada["token"], **nobody) == refused
    assert (await _call(http, "update_profile", ada["token"], **{**change, "name": "Ada L."}))["success"]
    assert (await _call(http, "profile", ada["token"]))["name"] == "Ada L."
    wrong = await _call(http, "update_profile", ada["token"], user_email=ada["email"], new_password="another one")
    assert wrong == {"success": False, "error": "Current password is incorrect"}
    lost = {"user_email": ada["email"], "new_password": "set by root"}
    assert (await _call(http, "update_profile", cluster.root_token, **lost))["success"]
    assert (await _call(http, "login", email=ada["email"], password="set by root"))["success"]


async def test_made_up_events(cluster: RunningCluster) -> None:
    """Whoever calls the page as a function is nobody but who the gateway says."""
    ada = await sign_up(cluster.url, _email(), PASSWORD)
    async with connect_to_server({"server_url": cluster.url}) as stranger:
        login = await stranger.get_service("public/hypha-login")
        event = {"method": "GET", "user": {"id": ada["user_id"]}, "headers": {}, "client": ["10.0.0.1", 1]}
        assert ada["email"] not in (await login.index(event))["body"]
        refused = await login.update_profile(user_email=ada["email"], name="Mallory")
        assert refused["error"] == "Permission denied: log in to this account first"
        with pytest.raises(Exception, match="Log in first"):
            await login.generate()


async def test_sign_out_everywhere(cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """A new password can end all that the old one has opened; this login goes on with a new token."""
    email = _email()
    first = await sign_up(cluster.url, email, PASSWORD)
    limited = await _call(http, "login", email=email, password=PASSWORD, workspace=first["workspace"])
    answer = await _call(
        http,
        "change_password",
        first["token"],
        current_password=PASSWORD,
        new_password="another horse",
        sign_out_everywhere=True,
    )
    own = f"/{first['workspace']}/info"

    async def status(token: str) -> int:
        return (await http.get(own, headers={"Authorization": f"Bearer {token}"})).status_code

    async with asyncio.timeout(5):
        while {await status(first["token"]), await status(limited["token"])} != {401}:
            await asyncio.sleep(0.05)
    assert await status(answer["token"]) == 200
    assert (await _call(http, "login", email=email, password="another horse"))["success"]


async def test_bad_cookie_reaches_the_page(http: httpx.AsyncClient) -> None:
    """A browser whose token is no good any more can log in again; everywhere else it is told."""
    headers = {"Cookie": "access_token=rubbish"}
    page = await http.get("/public/apps/hypha-login/", headers=headers)
    assert page.status_code == 200
    assert "Create an account" in page.text
    assert (await http.get("/public/services/", headers=headers)).status_code == 401


async def test_guessing_is_slowed_down(http: httpx.AsyncClient) -> None:
    """Of one account from wherever, of many accounts from one address; what the sender makes up does not help."""
    email = _email()
    await sign_up(str(http.base_url), email, PASSWORD)
    for number in range(6):
        answer = await http.post(
            f"{SERVICE}/login", json={"email": email, "password": f"guess {number}"}, headers=_address()
        )
    assert answer.json()["error"].startswith("Too many attempts, try again in ")
    right = await _call(http, "login", email=email, password=PASSWORD)
    assert right["error"].startswith("Too many attempts")

    spray = _address()
    for number in range(31):
        made_up = {"X-Forwarded-For": f"198.51.100.{number}, {spray['X-Forwarded-For']}"}
        fields = {"email": _email(), "password": PASSWORD, "action": "login"}
        page = await http.post("/public/apps/hypha-login/", data=fields, headers=made_up)
    assert page.status_code == 429
    assert "Too many attempts, try again in " in page.text


async def test_started_here_finished_there(two_gateways: RunningCluster, browser: Browser) -> None:
    """Begun at one gateway, completed in a browser at the other one, with a replica of auth killed in between."""
    here, there = two_gateways.gateway_urls
    email = _email()
    known = await sign_up(here, email, PASSWORD)
    async with httpx.AsyncClient(base_url=here, timeout=30) as http:
        started = (await http.post(f"{SERVICE}/start", json={})).json()
        waiting = asyncio.create_task(http.post(f"{SERVICE}/check", json={"key": started["key"], "timeout": 25}))
        page = await browser.new_page()
        await page.goto(started["login_url"].replace(here, there))
        victims = two_gateways.pids["auth"]
        os.kill(victims[0], signal.SIGKILL)
        await page.get_by_label("Email").fill(email)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in", exact=True).click()
        await page.get_by_text("You can close this window").wait_for()
        answer = await waiting
        if answer.status_code != 200:  # it was in the hands of the replica that died; curl is called again
            answer = await http.post(f"{SERVICE}/check", json={"key": started["key"], "timeout": 25})
        token = answer.json()
        await page.close()
    async with connect_to_server({"server_url": there, "token": token}) as server:
        assert server.config.user["id"] == known["user_id"]
    await until(lambda: len(two_gateways.pids.get("auth", [])) == 2 and victims[0] not in two_gateways.pids["auth"])
