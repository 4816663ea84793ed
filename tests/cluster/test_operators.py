from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from hypha_common.cluster_file import read
from hypha_common.ids import new_id
from hypha_common.operating import operator_bus
from hypha_common.settings import Settings
from hypha_workspace import presence
from hypha_workspace.inspection import open_stores
from hypha_workspace.presence import find_ghosts
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import refused
from tests.fixtures.commands import Completed, run_command
from tests.fixtures.errors_told import told


class Socket:
    """A websocket of a client that does nothing but being there."""

    def __init__(self, websocket: Any, info: dict[str, Any]) -> None:
        self.websocket = websocket
        self.info = info

    @property
    def id(self) -> str:
        return f"{self.info['workspace']}/{self.info['client_id']}"

    async def end(self) -> tuple[list[Any], int, str]:
        """Return what still came, and code and reason of the close frame."""
        told: list[Any] = []
        async with asyncio.timeout(5):
            with suppress(ConnectionClosed):
                while True:
                    told.append(json.loads(await self.websocket.recv()))
        return told, self.websocket.close_code, self.websocket.close_reason


class Sockets:
    """Opens sockets, and closes them in the end."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def open(self, url: str, token: str | None = None, address: str = "", **message: Any) -> Socket:
        headers = {"X-Forwarded-For": address} if address else {}
        target = url.replace("http", "ws", 1) + "/ws"
        websocket = await self._stack.enter_async_context(open_websocket(target, additional_headers=headers))
        await websocket.send(json.dumps({"client_id": f"c-{new_id(6)}", "token": token, **message}))
        return Socket(websocket, json.loads(await websocket.recv()))


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    async with AsyncExitStack() as stack:
        yield Sockets(stack)


@pytest.fixture
def command(two_gateways: RunningCluster) -> Callable[..., Any]:
    """Run a command line on the cluster of its data directory."""

    async def run(module: str, *arguments: str, status: int = 0) -> Completed:
        done = await run_command(module, *arguments, "--data-dir", str(two_gateways.data_dir))
        assert done.status == status, done
        return done

    return run


@pytest.fixture
async def root(two_gateways: RunningCluster) -> AsyncIterator[Any]:
    """`admin-utils`, as root's client gets it."""
    config = {"server_url": two_gateways.url, "token": two_gateways.root_token, "method_timeout": 20}
    async with connect_to_server(config) as server:
        yield await server.get_service("ws-user-root/admin-utils")


async def test_who_is_connected_where(
    two_gateways: RunningCluster, sockets: Sockets, command: Callable[..., Any]
) -> None:
    """Of both gateways, with address and time; ghosts there are none."""
    token = two_gateways.user_token("wherever")
    first = await sockets.open(two_gateways.gateway_urls[0], token, "203.0.113.7")
    second = await sockets.open(two_gateways.gateway_urls[1], token)
    gateways = (await command("hypha_gateway", "list")).rows
    assert len(gateways) == 2
    assert {row[5] for row in gateways} == {"serving"}
    rows = (await command("hypha_workspace", "where", "--user", "wherever")).rows
    found = {f"{row[0]}/{row[1]}": row for row in rows}
    assert set(found) == {first.id, second.id}
    assert {row[3] for row in rows} == {row[0] for row in gateways}
    assert found[first.id][5:] == ["websocket", "203.0.113.7", "unregistered"]
    assert (await command("hypha_workspace", "where", "--workspace", "ws-user-wherever")).rows == rows
    held = (await command("hypha_gateway", "connections", "--gateway", found[first.id][3], "--json")).out
    assert first.id in {f"{row['workspace']}/{row['client_id']}" for row in json.loads(held)}
    assert len((await command("hypha_gateway", "connections", "--limit", "1")).rows) == 1
    assert (
        "No gateway nowhere is there"
        in (await command("hypha_gateway", "connections", "--gateway", "nowhere", status=1)).err
    )
    assert json.loads((await command("hypha_workspace", "ghosts", "--json")).out) == []


async def test_ghosts_are_found_and_removed(
    two_gateways: RunningCluster, sockets: Sockets, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old disagreements between a gateway and the registry, and no new ones."""
    settings = Settings.load(read(two_gateways.data_dir), environ={})
    token = two_gateways.user_token("haunted")
    # Its row gets another name: a row that no socket vouches for, and a socket without a row.
    socket = await sockets.open(two_gateways.gateway_urls[0], token)
    standing = await sockets.open(two_gateways.gateway_urls[1], token)
    client_id = socket.info["client_id"]
    async with operator_bus(settings) as bus, open_stores(settings) as stores:
        rename = "UPDATE clients SET client_id = 'ghost', created_at = now() - $2::interval WHERE client_id = $1"
        await stores.database.home.execute(rename, client_id, timedelta(0))
        assert await find_ghosts(stores.clients, bus) == []  # such things happen for a moment
        await stores.database.home.execute(rename, "ghost", timedelta(minutes=1))
        rows = (await command("hypha_workspace", "ghosts", "--remove")).rows
        assert [(row[0], row[1], row[7]) for row in rows] == [("ws-user-haunted", "ghost", "no-socket")]
        monkeypatch.setattr(presence, "LEASE_S", -60.0)  # as if it were later
        (ghost,) = await find_ghosts(stores.clients, bus)
        assert (ghost.client_id, ghost.state) == (client_id, presence.State.NO_ROW)
        assert await presence.remove_ghost(ghost, stores.clients, bus, grace_s=60)
        assert (await socket.end())[1:] == (1001, "Not known to the registry, please reconnect")
        assert await find_ghosts(stores.clients, bus) == []
        assert not await presence.remove_ghost(ghost, stores.clients, bus, grace_s=60)
        (left,) = await presence.everybody(stores.clients, bus, workspace="ws-user-haunted")
        assert f"{left.workspace}/{left.client_id}" == standing.id


async def test_a_client_is_kicked(
    two_gateways: RunningCluster, sockets: Sockets, command: Callable[..., Any], root: Any
) -> None:
    """With the code and reason of whoever asks, and without an error message."""
    token = two_gateways.user_token("kicked")
    socket = await sockets.open(two_gateways.gateway_urls[1], token)
    await command("hypha_workspace", "kick", socket.id, "--code", "4001", "--reason", "go away")
    assert await socket.end() == ([], 4001, "go away")
    assert socket.info["client_id"] in (await command("hypha_auth", "audit", "--event", "kicked")).out
    socket = await sockets.open(two_gateways.gateway_urls[0], token)
    await root.kickout_client("ws-user-kicked", socket.info["client_id"])
    assert await socket.end() == ([], 1000, "Admin requested disconnect")
    with pytest.raises(Exception, match="KeyError: 'Client not found: ws-user-kicked/nobody'"):
        await root.kickout_client("ws-user-kicked", "nobody")
    with pytest.raises(Exception, match="ValueError: Invalid close code: 1006"):
        await root.kickout_client("ws-user-kicked", "nobody", 1006)


async def test_a_workspace_is_unloaded(
    two_gateways: RunningCluster, sockets: Sockets, command: Callable[..., Any], root: Any
) -> None:
    """Its members are told and closed, at every gateway; it is there again when somebody comes back."""
    token = two_gateways.user_token("unloaded")
    members = [await sockets.open(url, token) for url in two_gateways.gateway_urls]
    assert (
        await root.unload_workspace("ws-user-unloaded", wait=True, timeout=5) == "Workspace unloaded: ws-user-unloaded"
    )
    text = "Workspace unloaded: ws-user-unloaded"
    for member in members:
        assert await member.end() == ([{"type": "error", "message": text}], 1001, text)
    assert (await command("hypha_workspace", "clients", "ws-user-unloaded")).rows == []
    again = await sockets.open(two_gateways.url, token)
    assert again.info["type"] == "connection_info"
    await command("hypha_workspace", "unload", "ws-user-unloaded", "--wait")
    assert (await again.end())[1:] == (1001, text)
    with pytest.raises(Exception, match="Workspace public cannot be unloaded"):
        await root.unload_workspace("public")


async def test_a_blocked_user_is_out_and_stays_out(two_gateways: RunningCluster, sockets: Sockets, root: Any) -> None:
    """With everybody to whom the user gave a token, at every gateway, by websocket and HTTP, within a second."""
    token = two_gateways.user_token("villain")
    async with connect_to_server({"server_url": two_gateways.url, "token": token}) as server:
        child = await server.generate_token()
    members = [
        await sockets.open(two_gateways.gateway_urls[0], token),
        await sockets.open(two_gateways.gateway_urls[1], token),
        await sockets.open(two_gateways.gateway_urls[1], child, workspace="ws-user-villain"),
    ]
    began = asyncio.get_running_loop().time()
    text = "User is blocked: spam"
    assert await root.block_user("villain", 60, "spam") == "Blocked user villain, kicked 3 connections"
    for member in members:
        assert await member.end() == ([{"type": "error", "message": text}], 1008, text)
    assert asyncio.get_running_loop().time() - began < 2
    for url in two_gateways.gateway_urls:
        for kept_out in (token, child):
            socket = await sockets.open(url, kept_out)
            assert (socket.info["type"], socket.info["message"]) == ("error", text)
            assert len(socket.info["error_id"]) == 32
            assert (await socket.end())[1:] == (1008, text)
            async with httpx.AsyncClient() as http:
                headers = {"Authorization": f"Bearer {kept_out}"}
                answer = await http.get(f"{url}/public/services/hypha-login/profile", headers=headers)
            assert (answer.status_code, told(answer)) == (403, {"detail": text})
    blocked = (await root.list_blocked())["users"]
    assert [(user["id"], user["reason"], 50 < user["ttl_seconds"] <= 60) for user in blocked] == [
        ("villain", "spam", True)
    ]
    assert await root.unblock_user("villain") == "Unblocked user villain"
    assert await root.unblock_user("villain") == "User villain was not blocked"
    await _until_let_in(sockets, two_gateways.gateway_urls, token)
    with pytest.raises(Exception, match="root cannot be blocked"):
        await root.block_user("root")


async def test_streams_of_a_blocked_user_end(two_gateways: RunningCluster, root: Any) -> None:
    """As websockets do; and no new one begins."""
    url, headers = two_gateways.gateway_urls[1], {"Authorization": f"Bearer {two_gateways.user_token('streamer')}"}
    async with httpx.AsyncClient(timeout=5) as http:
        async with http.stream("GET", f"{url}/rpc?client_id=s1", headers=headers) as stream:
            pieces = stream.aiter_bytes()
            assert b"connection_info" in await anext(pieces)
            assert await root.block_user("streamer", 60, "no") == "Blocked user streamer, kicked 1 connections"
            assert b"User is blocked: no" in b"".join([piece async for piece in pieces])
        refused = await http.get(f"{url}/rpc?client_id=s2", headers=headers)
        assert (refused.status_code, told(refused)) == (403, {"detail": "User is blocked: no"})
    await root.unblock_user("streamer")


async def _until_let_in(sockets: Sockets, urls: list[str], token: str | None, address: str = "") -> None:
    """Every gateway hears of it on its own."""
    async with asyncio.timeout(3):
        for url in urls:
            while (await sockets.open(url, token, address)).info["type"] != "connection_info":
                await asyncio.sleep(0.05)


async def test_a_blocked_address_is_out(two_gateways: RunningCluster, sockets: Sockets, root: Any) -> None:
    """Who comes from there, with a token or without; root is let in all the same."""
    address, url = "203.0.113.66", two_gateways.gateway_urls[1]
    member = await sockets.open(url, None, address)
    other = await sockets.open(url, None, "203.0.112.1")
    assert await root.block_ip("203.0.113.0/24", 0, "attack") == "Blocked IP 203.0.113.0/24, kicked 1 connections"
    text = "IP is blocked: attack"
    assert await member.end() == ([{"type": "error", "message": text}], 1008, text)
    for token in (None, two_gateways.user_token()):
        assert (await sockets.open(url, token, address)).info["message"] == text
    assert (await sockets.open(url, two_gateways.root_token, address)).info["type"] == "connection_info"
    forwarded = {"X-Forwarded-For": address}
    async with httpx.AsyncClient(base_url=url, headers=forwarded) as http:
        answer = await http.get("/public/services")
        assert (answer.status_code, told(answer)) == (403, {"detail": text})
        assert (await http.get("/health/liveness")).status_code == 200
        bearer = {"Authorization": f"Bearer {two_gateways.root_token}"}
        answer = await http.get("/ws-user-root/services/admin-utils/list_blocked", headers=bearer)
        assert answer.status_code == 200, answer.text
        (blocked,) = answer.json()["ips"]
        assert (blocked["id"], blocked["reason"]) == ("203.0.113.0/24", "attack")
        assert 29 * 86400 < blocked["ttl_seconds"] <= 30 * 86400  # 0: 30 days
    assert await root.unblock_ip("203.0.113.0/24") == "Unblocked IP 203.0.113.0/24"
    await _until_let_in(sockets, [url], None, address)
    await other.websocket.send('{"type":"ping"}')
    assert json.loads(await other.websocket.recv()) == {"type": "pong"}


async def test_administrators_see_the_cluster(two_gateways: RunningCluster, root: Any) -> None:
    """Processes, workspaces, numbers; in the shapes that are documented."""
    servers = await root.list_servers()
    roles = sorted(server["role"] for server in servers)
    assert [role for role in roles if role in ("auth", "gateway", "workspace")] == [
        *("auth", "auth", "gateway", "gateway", "workspace", "workspace")
    ]
    assert "public" in {workspace["id"] for workspace in await root.list_workspaces()}
    metrics = await root.get_metrics()
    assert metrics["processes"]["gateway"] == 2
    assert metrics["clients"] >= 1
    usage = await root.get_resource_usage()
    assert set(usage) == {
        "connections_per_user", "connections_per_workspace", "services_per_client", "active_rate_limiters", "limits",
    }  # fmt: skip
    assert usage["connections_per_user"]["root"] >= 1
    assert usage["limits"]["max_connections_per_user"] == 100000


async def test_only_administrators_may(two_gateways: RunningCluster, root: Any) -> None:
    """Not other users, not anonymous ones, not who root let into its workspace; and nobody takes the role's place."""
    bad = [two_gateways.user_token("curious"), None]
    for token in bad:
        async with connect_to_server({"server_url": two_gateways.url, "token": token}) as server:
            with pytest.raises(Exception, match="PermissionError: Permission denied"):
                await server.get_service("ws-user-root/admin-utils")
            # Without asking for the service first.
            with pytest.raises(Exception, match="Permission denied for invoking protected method"):
                await _call(server, "services.admin-utils.list_blocked")
    config = {"server_url": two_gateways.url, "token": two_gateways.root_token}
    async with connect_to_server(config) as server:
        guest = await server.generate_token({"workspace": "ws-user-root", "permission": "admin"})
    config = {"server_url": two_gateways.url, "token": guest, "workspace": "ws-user-root"}
    async with connect_to_server(config) as server:
        for text in ("list_blocked", "list_servers", "get_metrics", "list_workspaces", "get_resource_usage"):
            with pytest.raises(Exception, match="PermissionError: Permission denied"):
                await _call(server, f"services.admin-utils.{text}")
    taken = await refused(two_gateways.url, token=guest, workspace="ws-user-root", client_id="hypha-workspace")
    assert "Client already exists and is active: ws-user-root/hypha-workspace" in taken
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{two_gateways.url}/ws-user-root/services/admin-utils/list_blocked")
    assert answer.status_code == 403


async def _call(server: Any, method: str) -> Any:
    call = server.rpc._generate_remote_method(
        {"_rtarget": "ws-user-root/hypha-workspace", "_rmethod": method, "_rpromise": "*", "_rname": method}
    )
    return await call()


async def test_gateways_are_drained_one_by_one(start_cluster: Callable[..., RunningCluster]) -> None:
    """Its clients go, it ends and is started again; the other one never notices."""
    cluster = start_cluster("--gateways=2")
    async with AsyncExitStack() as stack:
        sockets = Sockets(stack)
        members = [await sockets.open(url) for url in cluster.gateway_urls]
        place = ("--data-dir", str(cluster.data_dir))
        rows = (await run_command("hypha_gateway", "connections", *place)).rows
        gateway = next(row[3] for row in rows if f"{row[0]}/{row[1]}" == members[0].id)
        done = await run_command("hypha_gateway", "drain", gateway, *place)
        assert (done.status, done.out) == (0, f"{gateway} drains 1 connections\n")
        assert (await members[0].end())[1:] == (1001, "Server is shutting down")
        await members[1].websocket.send('{"type":"ping"}')
        assert json.loads(await members[1].websocket.recv()) == {"type": "pong"}
        refused = await run_command("hypha_gateway", "drain", *place)
        assert (refused.status, "Name one gateway, or --all" in refused.err) == (1, True)
