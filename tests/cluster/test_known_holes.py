"""
Holes of other servers (contract 01 §9) that must not be here: what somebody would try, through the whole cluster.

Where each is tested:

1. broadcast into a foreign workspace, also by readers: ``test_frames.TestBroadcasts``
2. ``unregister_service`` of others: ``manager/test_manager_services.test_unregister``; by websocket and HTTP: here
3. services under another client's id: ``manager/test_manager_services.test_what_a_client_may_not_register``; here
4. ``get_workspace_info`` of others: ``manager/test_manager_workspaces.test_workspace_info_is_for_members``; by HTTP:
   here
5. making ``ws-user-<somebody>``: ``manager/test_manager_workspaces.test_who_may_not_create``, by connecting:
   ``test_handshake.TestWorkspaces``; both: here
6. child tokens that act as their parents: ``unit/test_auth_issuing``, ``unit/test_auth_login``,
   ``registry/test_admission``, ``manager/test_manager_workspaces.test_child_tokens_do_not_own``; with real tokens: here
7. identity at ``POST /rpc``: here, and with the HTTP transport when it comes
9. paths of the server in error texts: here
10. root's rights in messages to clients: here
11. generators over HTTP: ``test_http_bad_input.TestStreams``, ``unit/test_http_service_call``
13. content types with parameters: ``unit/test_http_service_call.test_post``, ``unit/test_http_arguments``
14. close reasons that are too long: ``test_handshake.TestWorkspaces.test_long_reasons`` and every refusal there
15. ``check`` without a timeout: here

8, 12 and 16 concern the HTTP transport and custom authentication.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypha_rpc.rpc import RemoteException

from hypha_common.ids import new_id
from tests.cluster.raw_client import CallFailed, encoded, knock, raw_client
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

pytestmark = pytest.mark.usefixtures("unharmed")


@pytest.fixture
async def http(cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=15) as client:
        yield client


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestChildTokens:
    @pytest.mark.parametrize("permission", ["read", "read_write"])
    async def test_do_not_grow(
        self, cluster: RunningCluster, connect: Connect, http: httpx.AsyncClient, permission: str
    ) -> None:
        """Who was given a little cannot get more out of it, by websocket or by HTTP, and reaches no other workspace."""
        parent = await connect(token=cluster.user_token())
        home = parent.config.workspace
        lab, other = (f"lab-{new_id(8).lower()}" for _ in range(2))
        for name in (lab, other):
            await parent.create_workspace({"name": name, "persistent": True})
        token = await parent.generate_token({"workspace": lab, "permission": permission})
        child = await connect(token=token)
        assert child.config.workspace == lab
        attempts: list[tuple[str, list[Any]]] = [
            *(
                ("generate_token", [{"workspace": ws, "permission": "admin"}])
                for ws in (lab, other, home, "public", "*")
            ),
            *(("delete_workspace", [ws]) for ws in (lab, other, home)),
            *(("create_workspace", [{"name": ws}, True]) for ws in (lab, other, home)),
            *(("get_workspace_info", [ws]) for ws in (other, home)),
            *(("list_clients", [ws]) for ws in (other, home)),
            ("list_services", [{"workspace": home, "visibility": "protected"}]),
            ("cleanup", [lab]),
            ("revoke_token", [token]),
        ]
        for method, arguments in attempts:
            assert await self._refused(child, http, token, method, arguments), (method, arguments)
        for workspace in (home, other):
            ended = await knock(cluster.url, {"client_id": "c", "token": token, "workspace": workspace})
            assert "does not match the specified workspace" in ended.error
        left = {workspace["id"] for workspace in await parent.list_workspaces()}
        assert {home, lab, other} <= left
        assert (await parent.get_workspace_info(lab)).persistent is True

    async def test_of_child_tokens(self, cluster: RunningCluster, connect: Connect) -> None:
        """An administrator's token may make tokens, for its own workspace only."""
        parent = await connect(token=cluster.user_token())
        admin = await connect(token=await parent.generate_token({"permission": "admin"}))
        grandchild = await admin.parse_token(await admin.generate_token({"permission": "read"}))
        assert grandchild["scope"]["workspaces"] == {parent.config.workspace: "r"}
        assert grandchild["parent"] == parent.config.user["id"]
        with pytest.raises(Exception, match="PermissionError: You do not have any permission for workspace"):
            await admin.generate_token({"workspace": "public"})

    async def test_do_not_grow_by_coming_back(self, cluster: RunningCluster) -> None:
        """A reconnection token gives what the first token gave, however often it is handed on."""
        async with raw_client(cluster.url, token=cluster.user_token()) as parent:
            token = await parent.manager("generate_token", {"permission": "read"})
            async with raw_client(cluster.url, "child", token=token) as child:
                first, rights = child.info["reconnection_token"], child.info["user"]["scope"]["workspaces"]
            assert rights == {parent.workspace: "r"}
            for _ in range(2):
                async with raw_client(cluster.url, "child", reconnection_token=first) as child:
                    first, user = child.info["reconnection_token"], child.info["user"]
                    assert (user["scope"]["workspaces"], user["roles"]) == (rights, ["user"])
                    for method, argument in (
                        ("generate_token", {"permission": "read"}),
                        ("register_service", {"id": f"{child.address}:s", "type": "generic"}),
                    ):
                        with pytest.raises(CallFailed, match=r"Permission|Only admin"):
                            await child.manager(method, argument)

    async def _refused(
        self, child: Any, http: httpx.AsyncClient, token: str, method: str, arguments: list[Any]
    ) -> bool:
        """Try it both ways; an answer without anything in it is as good as a refusal."""
        response = await http.post(f"/public/services/ws/{method}", json=arguments, headers=_bearer(token))
        if response.status_code == 200 and response.json():
            return False
        try:
            return not await child[method](*arguments)
        except RemoteException as error:
            return re.search("PermissionError|Permission denied|Only admin", str(error)) is not None


async def test_strangers_over_http(cluster: RunningCluster, connect: Connect, http: httpx.AsyncClient) -> None:
    """Neither nobody in particular nor another user changes or reads what belongs to a workspace."""
    owner = await connect(token=cluster.user_token())
    workspace = owner.config.workspace
    await owner.set_env("SECRET", "s3cr3t")
    service = await owner.register_service({"id": "s", "config": {"visibility": "public"}, "f": lambda: 1})
    for headers in ({}, _bearer(cluster.user_token())):
        assert (await http.get(f"/{workspace}/info", headers=headers)).status_code == 403
        for method, arguments in (
            ("unregister_service", [service.id]),
            ("get_workspace_info", [workspace]),
            ("list_clients", [workspace]),
            ("ping", [f"{workspace}/{owner.config.client_id}"]),
            ("delete_workspace", [workspace]),
            ("create_workspace", [{"name": workspace}, True]),
            ("generate_token", [{"workspace": workspace}]),
            ("register_service", [{"id": f"{workspace}/{owner.config.client_id}:evil"}]),
        ):
            response = await http.post(f"/{workspace}/services/ws/{method}", json=arguments, headers=headers)
            assert response.status_code in (400, 403, 500), (method, response.text)
            assert re.search("Permission|does not match|Only registered user|Only admin", response.text), response.text
        env = await http.get(f"/{workspace}/services/ws/get_env", headers=headers)
        assert "s3cr3t" not in env.text
    assert await (await owner.get_service(service.id)).f() == 1


@pytest.mark.parametrize("registered", [True, False], ids=["another user", "anonymous"])
async def test_strangers_over_websocket(cluster: RunningCluster, registered: bool) -> None:
    """What is public may be called by everybody, and is nobody else's to remove, replace or move into."""
    first = {"token": cluster.user_token()} if registered else {}
    async with (
        raw_client(cluster.url, "owner", token=cluster.user_token()) as owner,
        raw_client(cluster.url, "stranger", **first) as stranger,
        raw_client(cluster.url, "mate", **first) as mate,
    ):
        await owner.register()
        await stranger.register()
        config = {"visibility": "public", "require_context": True}
        service = {"id": f"{owner.address}:s", "type": "generic", "config": config}
        await owner.manager("register_service", service)
        home, victim = owner.workspace, f"ws-user-{new_id(8).lower()}"
        attempts: list[tuple[str, list[Any]]] = [
            ("unregister_service", [f"{owner.address}:s"]),
            ("unregister_service", [f"{owner.address}:built-in"]),
            ("register_service", [service]),
            ("register_service", [{**service, "id": f"{stranger.workspace}/{mate.info['client_id']}:s"}]),
            ("register_service", [{**service, "id": f"{home}/stranger:s"}]),
            ("register_service", [{**service, "id": "public/stranger:s"}]),
            ("create_workspace", [{"name": victim}]),
            ("create_workspace", [{"name": victim}, True]),
            ("create_workspace", [{"name": home}, True]),
            ("delete_workspace", [home]),
            ("generate_token", [{"workspace": home}]),
            ("generate_token", [{"workspace": victim}]),
        ]
        for method, arguments in attempts:
            with pytest.raises(CallFailed, match=r"Permission|does not match|Only registered user|Only admin"):
                await stranger.manager(method, *arguments)
        for workspace in (home, victim):
            ended = await knock(cluster.url, {"client_id": "c", "workspace": workspace, **first})
            assert ended.code in (1001, 1008)
        listed = await stranger.manager("list_services", {"workspace": home})
        assert {service["id"] for service in listed} == {f"{owner.address}:s", f"{owner.address}:built-in"}


async def test_http_transport(cluster: RunningCluster, connect: Connect, http: httpx.AsyncClient) -> None:
    """Strangers on streams are strangers to each other, and nobody speaks for a client there but itself."""
    first, second = await connect(transport="http"), await connect(transport="http")
    assert first.config.user["id"] != second.config.user["id"]
    assert first.config.workspace != second.config.workspace
    header = {"type": "method", "to": "*/manager-hypha", "method": "services.default.set_env"}
    frame = encoded(header, {"args": ["STOLEN", "1"]})
    async with raw_client(cluster.url) as websocket:
        for victim in (first.config, second.config, websocket.info):
            place = {"client_id": victim["client_id"], "workspace": victim["workspace"]}
            for headers in ({}, _bearer(cluster.user_token())):
                response = await http.post("/rpc", params=place, content=frame, headers=headers)
                assert response.status_code in (400, 403), response.text
        await websocket.nothing()
    assert await first.get_env() == await second.get_env() == {}


async def test_error_texts_tell_nothing_about_the_server(cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """No path, no line of code, no address of a store: the error itself, under its name."""
    calls: list[tuple[str, list[Any]]] = [
        ("get_service", ["nothing"]),
        ("get_service", ["a:b:c"]),
        ("get_service", ["*"]),
        ("get_service", [5]),
        ("register_service", [{"id": "x"}]),
        ("register_service", [5]),
        ("list_services", [{"colour": 1}]),
        ("list_workspaces", [None, -1, 0]),
        ("create_workspace", [{"name": "x-y"}]),
        ("generate_token", [{"permission": "x"}]),
        ("parse_token", ["x"]),
        ("revoke_token", ["x"]),
        ("get_events", ["x", "no date"]),
        ("get_env", ["nothing"]),
        ("subscribe", ["ws-x/y"]),
        ("search_services", ["x"]),
        ("nothing", []),
        ("echo", []),
        ("echo", [1, 2, 3]),
    ]
    texts = []
    async with raw_client(cluster.url) as client:
        for method, arguments in calls:
            with pytest.raises(CallFailed) as caught:
                await client.manager(method, *arguments)
            text = str(caught.value)
            lines = [line for line in text.splitlines() if not re.fullmatch(r"  Error id: [0-9a-f]{32}", line)]
            assert lines[:-1] in ([], ["Traceback (most recent call last):"]), text
            assert re.match(r"(\w+(Error|Exception)|Exception|Method expired or not found): ", lines[-1]), text
            texts.append(text)
            texts.append((await http.post(f"/public/services/ws/{method}", json=arguments)).text)
        with pytest.raises(CallFailed) as caught:
            await client.call("services.hypha-login.check", "nothing", 0, to="public/hypha-auth")
        texts.append(str(caught.value))
    for text in texts:
        for inside in ('File "', ".py", str(cluster.data_dir), "asyncpg", "postgres", "nats", "SELECT", "127.0.0.1"):
            assert inside not in text, text


async def test_messages_of_the_cluster_carry_no_rights(cluster: RunningCluster) -> None:
    """It speaks as root, but does not show anybody what root may do."""
    async with raw_client(cluster.url) as client, raw_client(cluster.url) as other:
        await client.manager("subscribe", "snap")
        asked = asyncio.ensure_future(other.manager("ping", other.address, 1))
        header, _ = await other.frame()
        assert header["from"] == "*/manager-hypha"
        assert (header["user"]["id"], header["user"]["roles"], header["user"]["scope"]["workspaces"]) == (
            "root",
            [],
            {},
        )
        await asked


async def test_login_check_waits_by_itself(cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """Without a timeout it waits, and answers as soon as somebody has logged in."""
    started = (await http.post("/public/services/hypha-login/start", json={})).json()
    check = asyncio.ensure_future(http.get(started["check_url"], params={"key": started["key"]}))
    await asyncio.sleep(0.3)
    assert not check.done()
    token = cluster.user_token("lou")
    await http.post(started["report_url"], json={"key": started["key"], "token": token})
    answer = await asyncio.wait_for(check, 5)
    assert answer.status_code == 200, answer.text
    async with raw_client(cluster.url, token=answer.json()) as client:
        assert client.workspace == "ws-user-lou"
