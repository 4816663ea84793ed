from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from hypha_rpc import connect_to_server, login

from tests.cluster.operations import until
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import refused

SECRET = "a secret that is not the cluster's, of course"
LOGIN = "/public/services/hypha-login"


@pytest.fixture(scope="module")
def server(functions: Path) -> Iterator[RunningCluster]:
    """Two gateways and two replicas of auth, with custom authentication."""
    running = RunningCluster(
        "--gateways=2", "--auth-replicas=2", "--startup-functions=custom_login.py:hypha_startup", cwd=functions
    )
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest.fixture
async def http(server: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.gateway_urls[1], timeout=20) as client:
        yield client


async def _logged_in(http: httpx.AsyncClient, name: str = "alice", password: str = "wonderland") -> str:
    answer = await http.post(f"{LOGIN}/login", json={"name": name, "password": password})
    return str(answer.json()["token"])


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def _user(http: httpx.AsyncClient, headers: dict[str, str]) -> Any:
    answer = await http.get("/ws-user-alice/info", headers=headers)
    return answer.json()["id"] if answer.status_code == 200 else (answer.status_code, answer.json()["detail"])


async def test_login_over_rpc(server: RunningCluster, http: httpx.AsyncClient) -> None:
    """An unmodified client logs in at the custom login, and is who the custom token says."""
    pages: list[str] = []

    async def complete(context: Any) -> None:
        pages.append((await http.get(context["login_url"])).text)
        answer = await http.post(
            f"{LOGIN}/login", json={"name": "alice", "password": "wonderland", "key": context["key"]}
        )
        assert answer.json()["success"] is True

    token = await login({"server_url": server.url, "login_callback": complete})
    assert pages[0].startswith("<h1>Our login</h1>key=")
    assert jwt.decode(token, SECRET, algorithms=["HS256"])["sub"] == "alice"
    async with connect_to_server({"server_url": server.url, "token": token}) as client:
        assert client.config.workspace == "ws-user-alice"
        assert client.config.user["email"] == "alice@example.org"
        assert await client.echo("x") == "x"


async def test_login_over_http(http: httpx.AsyncClient) -> None:
    """As with curl, at another gateway."""
    started = (await http.post(f"{LOGIN}/start", json={})).json()
    assert (await http.post(f"{LOGIN}/check", json={"key": started["key"], "timeout": 0})).json() is None
    wrong = {"name": "alice", "password": "x", "key": started["key"]}
    assert (await http.post(f"{LOGIN}/login", json=wrong)).json()["error"] == "Invalid name or password"
    assert (await http.post(f"{LOGIN}/login", json={**wrong, "password": "wonderland"})).json()["success"] is True
    found = (await http.post(f"{LOGIN}/check", json={"key": started["key"], "profile": True})).json()
    assert found["user_id"] == "alice"
    assert await _user(http, _bearer(found["token"])) == "ws-user-alice"
    assert (await http.post(f"{LOGIN}/logout", json={})).json() == {"logout_url": "/public/apps/hypha-login/bye"}
    assert (await http.get("/public/apps/hypha-login/")).text.startswith("<h1>Our login</h1>")


async def test_tokens_of_the_cluster_stay_the_clusters(server: RunningCluster) -> None:
    """The root token, a user's, and those with which clients come back."""
    async with connect_to_server({"server_url": server.url, "token": server.root_token}) as root:
        assert root.config.user["id"] == "root"
    async with connect_to_server({"server_url": server.url, "token": server.user_token("carol")}) as carol:
        assert carol.config.user["id"] == "carol"
    async with connect_to_server({"server_url": server.url}) as nobody:
        assert nobody.config.user["is_anonymous"]
        token = await nobody.generate_token()
        assert jwt.decode(token, options={"verify_signature": False})["iss"] == "https://amun.ai/"


async def test_a_client_comes_back(server: RunningCluster, http: httpx.AsyncClient) -> None:
    """With a reconnection token, which is the cluster's."""
    async with connect_to_server({"server_url": server.url, "token": await _logged_in(http)}) as client:
        await client.register_service({"id": "mine", "f": lambda: 1})
        connection = client.rpc._connection
        assert connection._reconnection_token
        await connection._websocket.close(1001)
        async with asyncio.timeout(20):
            while await client.echo("back") != "back" or connection._reconnected_event is not None:
                await asyncio.sleep(0.05)
        assert client.config.user["id"] == "alice"


@pytest.mark.parametrize(
    ("token", "detail"),
    [
        ("abc", "Not a token of ours: Not enough segments"),
        (jwt.encode({"sub": "alice", "exp": 1}, SECRET, "HS256"), "Not a token of ours: Signature has expired"),
        (jwt.encode({"sub": "alice", "exp": 2**32}, "x" * 40, "HS256"), "Not a token of ours: Signature verification"),
        (jwt.encode({"sub": "nobody", "exp": 2**32}, SECRET, "HS256"), "Invalid user id 'root'"),
        (jwt.encode({"sub": "a/b", "exp": 2**32}, SECRET, "HS256"), "Invalid user id 'a/b'"),
    ],
)
async def test_bad_tokens(server: RunningCluster, http: httpx.AsyncClient, token: str, detail: str) -> None:
    """401 with the reason, over HTTP and RPC; never somebody, and never nobody."""
    answer = await http.get("/public/services/", headers=_bearer(token))
    assert answer.status_code == 401
    assert detail in answer.json()["detail"]
    reason = await refused(server.url, token=token)
    assert "Authentication error" in reason
    assert detail in reason


async def test_where_the_token_is(http: httpx.AsyncClient) -> None:
    """``get_token`` first, then the usual places."""
    token, other = await _logged_in(http), await _logged_in(http, "bob", "builder")
    assert await _user(http, {"X-Our-Token": token}) == "ws-user-alice"
    assert await _user(http, {"X-Our-Token": token, **_bearer(other)}) == "ws-user-alice"
    assert await _user(http, _bearer(token)) == "ws-user-alice"
    assert await _user(http, {"Cookie": f"access_token={token}"}) == "ws-user-alice"
    assert (await _user(http, _bearer(other)))[0] == 403
    assert await _user(http, {"X-Our-Token": "refused"}) == (401, "We refuse this")


async def test_generated_tokens(server: RunningCluster, http: httpx.AsyncClient) -> None:
    """Made by the custom function, after our rules; they give no more than was asked for."""
    async with connect_to_server({"server_url": server.url, "token": await _logged_in(http)}) as client:
        token = await client.generate_token({"permission": "read", "expires_in": 60})
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        assert (claims["parent"], claims["grants"]) == ("alice", {"ws-user-alice": "r"})
        assert (await client.parse_token(token))["parent"] == "alice"
        with pytest.raises(Exception, match="You do not have any permission for workspace"):
            await client.generate_token({"workspace": "ws-user-bob"})
    async with connect_to_server({"server_url": server.url, "token": token}) as reader:
        assert reader.config.workspace == "ws-user-alice"
        with pytest.raises(Exception, match="Permission denied"):
            await reader.echo("reading is not enough")


async def test_revoked_tokens(server: RunningCluster, http: httpx.AsyncClient) -> None:
    """Everywhere, at once, and the connection that stands on it ends."""
    token, other = await _logged_in(http), await _logged_in(http)
    assert await _user(http, _bearer(token)) == "ws-user-alice"
    async with (
        connect_to_server({"server_url": server.url, "token": token}) as client,
        connect_to_server({"server_url": server.url, "token": other}) as revoker,
    ):
        await revoker.revoke_token(token)
        await until(lambda: client.rpc._connection._closed)
    async with asyncio.timeout(5):
        while (answer := await _user(http, _bearer(token))) == "ws-user-alice":
            await asyncio.sleep(0.05)
    assert answer == (401, "Token has been revoked")
    assert await _user(http, _bearer(other)) == "ws-user-alice"


async def test_nobody_else_registers_authentication(server: RunningCluster, http: httpx.AsyncClient) -> None:
    """Not even somebody whom root lets into workspace public, nor root itself as another client."""
    async with connect_to_server({"server_url": server.url, "token": server.root_token}) as root:
        public = await root.generate_token({"workspace": "public", "permission": "admin"})
        registry = await root.get_service("public/hypha-auth:custom-auth")
        with pytest.raises(Exception, match="Permission denied"):
            await registry.register([])
    async with connect_to_server({"server_url": server.url, "workspace": "public", "token": public}) as client:
        registry = await client.get_service("public/hypha-auth:custom-auth")
        with pytest.raises(Exception, match="Only startup functions may register custom authentication"):
            await registry.register([])
        functions = {"id": "hypha-login", "config": {"visibility": "public"}, "start": lambda: "theirs"}
        await client.register_service(functions)
        assert (await client.get_service("public/hypha-login")).id == "public/hypha:hypha-login"
        assert (await http.post(f"{LOGIN}/start", json={})).json()["login_url"].startswith("/public/apps/")
    async with connect_to_server({"server_url": server.url, "token": await _logged_in(http)}) as alice:
        with pytest.raises(Exception, match="Permission denied"):
            await alice.get_service("public/hypha-auth:custom-auth")


async def test_nobody_else_asks_the_functions(server: RunningCluster, http: httpx.AsyncClient) -> None:
    """Their service is found by nobody, and answers none but the cluster."""
    address = "public/hypha:custom-auth-functions"
    async with connect_to_server({"server_url": server.url, "token": server.root_token}) as root:
        with pytest.raises(Exception, match="Service not found"):
            await root.get_service(address)
        public = await root.generate_token({"workspace": "public", "permission": "admin"})
    async with connect_to_server({"server_url": server.url, "workspace": "public", "token": public}) as client:
        functions = await client.rpc.get_remote_service(address)
        with pytest.raises(Exception, match="may not ask for custom authentication"):
            await functions.parse_token("x")


async def test_the_default_login_is_closed(server: RunningCluster) -> None:
    """Also to those who know where it is."""
    async with connect_to_server({"server_url": server.url}) as client:
        default = await client.get_service("public/hypha-auth:hypha-login")
        with pytest.raises(Exception, match="temporarily unavailable"):
            await default.start()


async def test_while_the_functions_are_away(server: RunningCluster, http: httpx.AsyncClient) -> None:
    """What only they can judge is neither accepted nor anonymous; what the cluster can judge goes on."""
    fresh = jwt.encode({"sub": "alice", "exp": 2**32, "fresh": 1}, SECRET, "HS256")
    [runner] = server.pids["startup"]
    os.kill(runner, signal.SIGSTOP)
    try:
        frozen, carols, nobodys = await asyncio.gather(
            http.get("/ws-user-alice/info", headers=_bearer(fresh)),
            http.get("/ws-user-carol/info", headers=_bearer(server.user_token("carol"))),
            http.get("/public/services/"),
        )
        assert (frozen.status_code, carols.status_code, nobodys.status_code) == (503, 200, 503)
    finally:
        os.kill(runner, signal.SIGCONT)
    os.kill(runner, signal.SIGKILL)
    answer = await http.get("/ws-user-alice/info", headers=_bearer(fresh))
    assert (answer.status_code, answer.json()["detail"]) == (503, "Custom authentication is temporarily unavailable")
    await until(lambda: server.pids.get("startup", [runner]) != [runner])
    async with asyncio.timeout(20):
        while await _user(http, _bearer(fresh)) != "ws-user-alice":
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_only_some_parts_and_then_none(functions: Path, tmp_path: Path) -> None:
    """The server's own are used for the others; a start without custom authentication forgets it."""
    flags = "--startup-functions=custom_login.py:only_a_page"
    token = jwt.encode({"sub": "alice", "exp": 2**32}, SECRET, "HS256")
    running = RunningCluster(flags, cwd=functions, data_dir=tmp_path / "d")
    try:
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
            assert await _user(http, _bearer(token)) == "ws-user-alice"
            started = (await http.post(f"{LOGIN}/start", json={})).json()
            assert (await http.get(started["login_url"])).text.startswith("<h1>Our login</h1>")
            reported = await http.post(f"{LOGIN}/report", json={"key": started["key"], "token": token})
            assert reported.status_code == 200, reported.text
            assert (await http.post(f"{LOGIN}/check", json={"key": started["key"]})).json() == token
    finally:
        running.stop()
    running = RunningCluster(cwd=functions, data_dir=tmp_path / "d")
    try:
        async with httpx.AsyncClient(base_url=running.url, timeout=20) as http:
            assert (await _user(http, _bearer(token)))[0] == 401
            assert (await http.post(f"{LOGIN}/start", json={})).json()["login_url"].startswith(running.url)
    finally:
        running.stop()
