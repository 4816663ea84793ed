"""
How a client is let in or turned away (contract 01 §1.1 to §1.5), through the whole cluster.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.version import __version__
from tests.cluster.forged import codec_of, forged
from tests.cluster.raw_client import encoded, enter, knock, raw_client
from tests.cluster.raw_socket import open_websocket, raw_socket, upgrade_request, ws_frame
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

pytestmark = pytest.mark.usefixtures("unharmed")

FAILED = "Failed to establish connection: "
UNKNOWN_USER = f"{FAILED}Failed to authenticate user: "
MISMATCH = "Current workspace encoded in the token ({}) does not match the specified workspace ({})"
NO_AUTHENTICATION = "Authentication error: "
OLD_CLIENT = (
    "Connection rejected, please  upgrade to `hypha-rpc` which pass the authentication information in the first message"
)


async def _turned_away(cluster: RunningCluster, **first: Any) -> tuple[int, str]:
    """Come with a first message; return the code and the text of the refusal."""
    ended = await knock(cluster.url, {"client_id": new_id(8), **first})
    assert [text["type"] for text in ended.texts] == ["error"]
    assert len(ended.reason.encode()) <= 123
    assert ended.error.encode(errors="replace").startswith(ended.reason.encode())
    return ended.code, ended.error


class TestUpgrade:
    @pytest.mark.parametrize("name", ["workspace", "client_id", "token", "reconnection_token"])
    async def test_old_clients(self, cluster: RunningCluster, name: str) -> None:
        """Credentials in the address are refused, even empty ones, with a text that says what to do."""
        for query in (f"?{name}=x", f"?other=1&{name}="):
            ended = await knock(cluster.url, query=query)
            assert (ended.code, ended.reason, ended.texts) == (1008, OLD_CLIENT, [])

    async def test_other_parameters(self, cluster: RunningCluster) -> None:
        async with raw_socket(cluster.url) as socket:
            await socket.send(upgrade_request("/ws?x=1&tokens=2"))
            assert " 101 " in await socket.head()

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            pytest.param(upgrade_request(Sec_WebSocket_Version="8"), 400, id="old version"),
            pytest.param(upgrade_request(Sec_WebSocket_Key=None), 400, id="no key"),
            pytest.param(upgrade_request(Sec_WebSocket_Key="x"), 400, id="bad key"),
            pytest.param(upgrade_request(Sec_WebSocket_Version=None), 400, id="no version"),
            pytest.param(upgrade_request(Connection="keep-alive"), 426, id="no upgrade of the connection"),
            pytest.param(upgrade_request("/other"), 404, id="another path"),
            pytest.param(b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="no upgrade"),
            pytest.param(upgrade_request(method="POST"), 405, id="POST"),
        ],
    )
    async def test_no_websocket(self, cluster: RunningCluster, request_: bytes, status: int) -> None:
        """What is no websocket is answered in HTTP, and never by 403, which clients take for final."""
        async with raw_socket(cluster.url) as socket:
            await socket.send(request_)
            assert f" {status} " in (await socket.head()).splitlines()[0]

    async def test_extensions_and_protocols(self, cluster: RunningCluster) -> None:
        """None is negotiated: compression would cost memory for every connection."""
        async with raw_socket(cluster.url) as socket:
            request = upgrade_request(
                Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits", Sec_WebSocket_Protocol="chat"
            )
            await socket.send(request)
            head = (await socket.head()).lower()
            assert " 101 " in head
            assert "extensions" not in head
            assert "sec-websocket-protocol" not in head

    async def test_first_message_with_the_upgrade(self, cluster: RunningCluster) -> None:
        """A client in a hurry may send both at once."""
        async with raw_socket(cluster.url) as socket:
            await socket.send(upgrade_request() + ws_frame(Opcode.TEXT, b'{"client_id": "hurry"}'))
            await socket.head()
            assert json.loads((await socket.frame())[1])["client_id"] == "hurry"

    async def test_not_ready(self, start_cluster: Callable[..., RunningCluster]) -> None:
        """Without its bus and while it stops the gateway answers 503, which every client tries again."""
        cluster = start_cluster("--drain-window=2")
        os.kill(cluster.pids["nats"][0], signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (answer := await self._upgrade(cluster)) != 503:
            assert answer == 101
            assert time.monotonic() < deadline
        while await self._upgrade(cluster) != 101:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        while (await knock(cluster.url, {"client_id": "c", "workspace": "ws-x"})).code == 1013:
            assert time.monotonic() < deadline  # the workspace service comes back a little later
            await asyncio.sleep(0.05)
        async with raw_client(cluster.url) as client:
            await client.manager("echo", 1)
            async with raw_socket(cluster.url) as early:
                await early.send(b"GET ")
                os.kill(cluster.pids["gateway"][0], signal.SIGTERM)
                ended = await client.ended()
                assert (ended.code, ended.reason) == (1001, "Server is shutting down")
                await early.send(upgrade_request()[4:])
                head = await early.head()
                assert " 503 " in head
                assert "retry-after: 1" in head.lower()
        assert cluster.errors() == []

    async def _upgrade(self, cluster: RunningCluster) -> int:
        async with raw_socket(cluster.url) as socket:
            await socket.send(upgrade_request())
            return int((await socket.head()).split()[1])


class TestFirstMessage:
    async def test_none(self, cluster: RunningCluster) -> None:
        """Somebody who says nothing is heard for five seconds."""
        started = time.monotonic()
        ended = await knock(cluster.url)
        assert (ended.code, ended.reason, ended.error) == (1008, "Authentication payload timeout", ended.reason)
        assert 4.5 < time.monotonic() - started < 8

    @pytest.mark.parametrize("first", ["", "hello", "[]", "5", "null", '"x"', "{", "[" * 5000, b"", b"\x80", b"{}"])
    async def test_what_is_no_map(self, cluster: RunningCluster, first: str | bytes) -> None:
        ended = await knock(cluster.url, first)
        assert (ended.code, ended.error) == (1003, "Failed to decode authentication information")

    @pytest.mark.parametrize("first", [{"token": 5}, {"workspace": ["x"]}, {"reconnection_token": {}}, {"token": True}])
    async def test_fields_of_a_wrong_type(self, cluster: RunningCluster, first: dict[str, Any]) -> None:
        code, text = await _turned_away(cluster, **first)
        assert (code, text) == (1001, f"{FAILED}{next(iter(first))} must be text")

    async def test_more_before_the_answer(self, cluster: RunningCluster) -> None:
        """Whoever talks on in no language before being let in does no harm."""
        async with open_websocket(cluster.url, authenticated=False) as socket:
            first = ws_frame(Opcode.TEXT, b'{"client_id": "eager"}')
            await socket.send(first + first + ws_frame(Opcode.BINARY, b"\x80") * 20)
            assert json.loads((await socket.frame())[1])["type"] == "connection_info"

    async def test_a_call_before_the_answer(self, cluster: RunningCluster) -> None:
        """hypha-rpc calls on its new websocket while it connects again: that is answered once it is let in."""
        async with open_websocket(cluster.url, authenticated=False) as socket:
            call = {"type": "method", "to": "*/manager-hypha", "method": "services.default.echo", "session": "s"}
            frame = ws_frame(Opcode.BINARY, encoded(call, {"args": ["early"], "promise": "*"}))
            await socket.send(ws_frame(Opcode.TEXT, b'{"client_id": "eager"}') + frame)
            assert json.loads((await socket.frame())[1])["type"] == "connection_info"
            while (message := (await socket.frame())[1]) and b"s.resolve" not in message:
                pass
            assert b"early" in message

    async def test_too_much_before_the_answer(self, cluster: RunningCluster) -> None:
        """Nobody who has not been let in takes much memory; a client tries again."""
        async with open_websocket(cluster.url, authenticated=False) as socket:
            call = {"type": "method", "to": "*/manager-hypha", "method": "services.default.echo", "session": "s"}
            frame = ws_frame(Opcode.BINARY, encoded(call, {"args": ["x" * 30_000]}))
            await socket.send(ws_frame(Opcode.TEXT, b'{"client_id": "eager"}') + 3 * frame)
            assert await socket.close_code() == 1013

    async def test_gone_before_the_answer(self, cluster: RunningCluster) -> None:
        """Nothing is left of a client that did not wait, not even its id."""
        for _ in range(5):
            async with open_websocket(cluster.url, authenticated=False) as socket:
                await socket.send(ws_frame(Opcode.TEXT, json.dumps({"client_id": "c", "token": ""}).encode()))


class TestWelcome:
    async def test_anonymous(self, cluster: RunningCluster) -> None:
        """Who comes without a token is somebody new, alone in a workspace of their own."""
        async with raw_client(cluster.url, "raw1", workspace=None, token=None, reconnection_token=None) as client:
            info, user = client.info, client.info["user"]
            assert re.fullmatch(r"anonymouz-[a-z]+-[a-z]+-\d{8}", user["id"])
            assert client.workspace == f"ws-user-{user['id']}"
            assert abs(user.pop("expires_at") - time.time() - 600) < 30
            assert user == {
                "id": user["id"],
                "roles": ["anonymous"],
                "is_anonymous": True,
                "scope": {
                    "current_workspace": client.workspace,
                    "workspaces": {client.workspace: "a"},
                    "client_id": "raw1",
                    "extra_scopes": None,
                },
                "email": None,
                "parent": None,
                "current_workspace": None,
            }
            token = info.pop("reconnection_token")
            assert info == {
                "type": "connection_info",
                "hypha_version": __version__,
                "public_base_url": cluster.url,
                "local_base_url": cluster.url,
                "manager_id": "manager-hypha",
                "workspace": client.workspace,
                "client_id": "raw1",
                "user": user,
                "reconnection_token_life_time": 172800.0,
            }
            verified = codec_of(cluster).verify(token)
            assert (verified.workspace, verified.client_id) == (client.workspace, "raw1")
        async with raw_client(cluster.url, "raw1") as other:
            assert other.info["user"]["id"] != user["id"]

    async def test_only_a_client_id(self, cluster: RunningCluster) -> None:
        async with raw_client(cluster.url, "x") as client:
            assert client.info["user"]["is_anonymous"]

    async def test_public_is_replaced(self, cluster: RunningCluster) -> None:
        """A user who asks for ``public`` comes home; nobody in particular is refused."""
        async with raw_client(cluster.url, token=cluster.user_token("pia"), workspace="public") as client:
            assert client.workspace == "ws-user-pia"
        assert await _turned_away(cluster, workspace="public") == (
            1001,
            f"{FAILED}Permission denied for workspace: public",
        )

    async def test_root(self, cluster: RunningCluster) -> None:
        """Root is at home in its own workspace, may do everything, and goes nowhere else with that token."""
        async with raw_client(cluster.url, token=cluster.root_token) as root:
            assert (root.workspace, root.info["user"]["id"], root.info["user"]["roles"]) == (
                "ws-user-root",
                "root",
                ["admin"],
            )
            assert root.info["user"]["scope"]["workspaces"]["*"] == "a"
        assert await _turned_away(cluster, token=cluster.root_token, workspace="ws-user-pia") == (
            1001,
            f"{UNKNOWN_USER}{MISMATCH.format('ws-user-root', 'ws-user-pia')}",
        )

    async def test_scope_of_a_token(self, cluster: RunningCluster) -> None:
        """A made token leads to its workspace, with its permission and nothing else."""
        async with raw_client(cluster.url, token=cluster.user_token()) as owner:
            token = await owner.manager("generate_token", {"permission": "read", "client_id": "one"})
        for workspace in (None, owner.workspace, "public"):
            async with raw_client(cluster.url, "one", token=token, workspace=workspace) as client:
                assert client.workspace == owner.workspace
                assert client.info["user"]["scope"]["workspaces"] == {owner.workspace: "r"}
                assert client.info["user"]["parent"] == owner.info["user"]["id"]
        assert await _turned_away(cluster, client_id="two", token=token) == (
            1001,
            f"{UNKNOWN_USER}Client id mismatch: this token is restricted to client with client_id='one'",
        )
        assert await _turned_away(cluster, client_id="one", token=token, workspace="ws-other") == (
            1001,
            f"{UNKNOWN_USER}{MISMATCH.format(owner.workspace, 'ws-other')}",
        )


class TestTokens:
    @pytest.mark.parametrize(
        ("token", "detail"),
        [
            pytest.param(lambda c: "abc", "Error decoding token headers.", id="rubbish"),
            pytest.param(lambda c: "a.b.c", "Error decoding token headers.", id="of the right shape"),
            pytest.param(lambda c: "\x00", "Error decoding token headers.", id="NUL"),
            pytest.param(lambda c: "é😀", "Error decoding token headers.", id="no ASCII"),
            pytest.param(lambda c: "\ud800", "Error decoding token headers.", id="half a character"),
            pytest.param(lambda c: f" {c.user_token()}", "Error decoding token headers.", id="blank before"),
            pytest.param(lambda c: c.user_token() + "\n", "Error decoding token headers.", id="line break after"),
            pytest.param(lambda c: "x" * 50_000, "Error decoding token headers.", id="long"),
            pytest.param(lambda c: c.root_token[:-1] + "_", "Error decoding token headers.", id="nearly root"),
            pytest.param(
                lambda c: forged(c, exp=int(time.time()) - 1),
                "The token has expired. Please fetch a new one",
                id="expired",
            ),
            pytest.param(lambda c: forged(c, key="k" * 40), "Signature verification failed.", id="another key"),
            pytest.param(lambda c: c.user_token()[:-6] + "AAAAAA", "Signature verification failed.", id="signature"),
            pytest.param(
                lambda c: ".".join((c.user_token().split(".")[0], *forged(c, sub="root").split(".")[1:2], "AAAA")),
                "Signature verification failed.",
                id="changed",
            ),
            pytest.param(lambda c: forged(c, algorithm="none"), "Invalid algorithm: none", id="not signed"),
            pytest.param(lambda c: forged(c, algorithm="HS512"), "Invalid algorithm: HS512", id="another algorithm"),
            pytest.param(lambda c: forged(c, sub=None), "", id="no subject"),
            pytest.param(lambda c: forged(c, exp=None), "", id="no end"),
            pytest.param(lambda c: forged(c, iss="https://other/"), "", id="another issuer"),
            pytest.param(lambda c: forged(c, aud="other"), "", id="another audience"),
            pytest.param(lambda c: forged(c, scope={"a": 1}), "", id="scope that is none"),
        ],
    )
    async def test_not_good(self, cluster: RunningCluster, token: Callable[[RunningCluster], str], detail: str) -> None:
        """In either field each is refused with its reason."""
        for field in ("token", "reconnection_token"):
            code, text = await _turned_away(cluster, **{field: token(cluster)})
            assert (code, text[: len(NO_AUTHENTICATION)]) == (1008, NO_AUTHENTICATION)
            if detail:
                assert text == NO_AUTHENTICATION + detail

    async def test_each_field_has_its_kind(self, cluster: RunningCluster) -> None:
        """A reconnection token is no token for whatever else, nor the other way round."""
        async with raw_client(cluster.url, "c", token=cluster.user_token()) as client:
            reconnection = client.info["reconnection_token"]
            bound = await client.manager("generate_token", {"client_id": "c"})
        for first in ({"token": reconnection}, {"reconnection_token": bound}):
            code, text = await _turned_away(cluster, client_id="c", **first)
            assert (code, text.partition(":")[0]) == (1008, "Authentication error")

    async def test_revoked(self, cluster: RunningCluster) -> None:
        """From the moment that `revoke_token` returns; who came in with it has to go and cannot come back either."""
        async with raw_client(cluster.url, token=cluster.user_token()) as owner:
            token = await owner.manager("generate_token")
            async with raw_client(cluster.url, "child", token=token) as child:
                await owner.manager("revoke_token", token)
                refused = (1001, f"{UNKNOWN_USER}Token has been revoked")
                assert await _turned_away(cluster, token=token) == refused
                again = {"client_id": "child", "reconnection_token": child.info["reconnection_token"]}
                assert await _turned_away(cluster, **again) == refused
                ended = await child.ended()
                assert (ended.code, ended.reason) == (1008, "Authentication error: Token has been revoked")

    async def test_specialised(self, cluster: RunningCluster) -> None:
        """A token for one purpose is no key to a workspace."""
        principal = Principal(
            id="eva", scope=Scope({"ws-user-eva": Permission.ADMIN}, extra_scopes=("file:download", "openid"))
        )
        token = codec_of(cluster).sign(principal, life_s=60)
        code, text = await _turned_away(cluster, token=token)
        assert code == 1001
        assert text.startswith(f"{UNKNOWN_USER}Specialized token with scopes ['file:download', 'openid'] cannot be")


class TestWorkspaces:
    @pytest.mark.parametrize(
        "workspace",
        ["ws-nowhere", "ws-user-nobody", "*", "a/b", "ws x", "ws.x", "ws>", "x|y", "é", "w" * 250, "w:x", "w@x"],
    )
    async def test_unknown(self, cluster: RunningCluster, workspace: str) -> None:
        """For everybody alike, quoted as clients match it."""
        refused = (1001, f"{FAILED}'Workspace {workspace} does not exist or is not accessible'")
        assert await _turned_away(cluster, workspace=workspace) == refused
        assert await _turned_away(cluster, workspace=workspace, token=cluster.user_token()) == refused

    @pytest.mark.parametrize("workspace", ["w" * 300, "w" * 40_000, "a\x00b", "a\nb", "\ud800", "é" * 200])
    async def test_impossible(self, cluster: RunningCluster, workspace: str) -> None:
        code, text = await _turned_away(cluster, workspace=workspace, token=cluster.user_token())
        assert code == 1001
        assert text.endswith(("does not exist or is not accessible'", 'does not exist or is not accessible"'))

    async def test_of_somebody_else(self, cluster: RunningCluster) -> None:
        async with raw_client(cluster.url) as owner:
            for token in (None, cluster.user_token()):
                assert await _turned_away(cluster, workspace=owner.workspace, token=token) == (
                    1001,
                    f"{FAILED}Permission denied for workspace: {owner.workspace}",
                )

    @pytest.mark.parametrize("workspace", ["ws-user-root", "ws-anonymous"])
    async def test_of_the_cluster(self, cluster: RunningCluster, workspace: str) -> None:
        for token in (None, cluster.user_token()):
            code, text = await _turned_away(cluster, workspace=workspace, token=token)
            assert (code, text) == (1001, f"{FAILED}Permission denied for workspace: {workspace}")

    async def test_long_reasons(self, cluster: RunningCluster) -> None:
        """A reason that a close frame cannot hold is whole in the message, and cut between characters in the frame."""
        workspace = "ws-" + "é" * 100
        ended = await knock(cluster.url, {"client_id": "c", "workspace": workspace})
        assert ended.error == f"{FAILED}'Workspace {workspace} does not exist or is not accessible'"
        assert ended.code == 1001
        assert 120 <= len(ended.reason.encode()) <= 123
        assert ended.error.startswith(ended.reason)


class TestClientIds:
    @pytest.mark.parametrize("client_id", [None, ""])
    async def test_missing(self, cluster: RunningCluster, client_id: str | None) -> None:
        first = {"client_id": client_id, "token": cluster.user_token("ida")}
        assert await _turned_away(cluster, **first) == (1001, f"{UNKNOWN_USER[:-2]} to workspace: ws-user-ida")
        ended = await knock(cluster.url, {"token": cluster.user_token("ida")})
        assert ended.error == f"{UNKNOWN_USER[:-2]} to workspace: ws-user-ida"

    @pytest.mark.parametrize(
        "client_id",
        ["a/b", "a*b", "*", "a:b", "a@b", "a\nb", "\x00", "\x1b[2J", "\x7f", "\x85", "\ud800", "client-http-x"],
    )
    async def test_refused(self, cluster: RunningCluster, client_id: str) -> None:
        """What would be ambiguous in an address, or cannot be shown."""
        assert await _turned_away(cluster, client_id=client_id) == (1001, f"{FAILED}Invalid client id: {client_id}")

    @pytest.mark.parametrize("client_id", ["x" * 300, "é" * 128, "x" * 60_000, 5, ["a"], {"a": 1}, True])
    async def test_impossible(self, cluster: RunningCluster, client_id: Any) -> None:
        code, text = await _turned_away(cluster, client_id=client_id)
        assert (code, text[: len(FAILED) + 19]) == (1001, f"{FAILED}Invalid client id: ")
        assert len(text) < 200

    @pytest.mark.parametrize(
        "client_id",
        [
            ".a.b.",
            "..",
            ">",
            "a>b",
            "a|b",
            "a b",
            " ",
            "ünïcödé-名前-😀",
            "x" * 255,
            "😀" * 63,
            "a=2Eb",
            "$SYS.>",
            "%2e%2e",
            "a\\b",
            "'; DROP TABLE clients;--",
            "<b>&amp;",
            "a#b?c&d",
            "__rlb",
            "manager-x",
            "built-in",
        ],
    )
    async def test_accepted(self, cluster: RunningCluster, connect: Connect, client_id: str) -> None:
        """What is accepted works all the way: listed, pinged, found, called by clients and by HTTP, told of, missed."""
        token = cluster.user_token()
        watcher = await connect(token=token, client_id="watcher")
        heard: asyncio.Queue[Any] = asyncio.Queue()
        types = ["client_connected", "client_disconnected", "snap"]
        for kind in types:
            watcher.on(kind, lambda event: heard.put_nowait((event["type"], event.get("data"))))
        await watcher.subscribe(types)
        workspace = watcher.config.workspace

        odd = await connect(token=token, client_id=client_id)
        address = f"{workspace}/{client_id}"
        assert await asyncio.wait_for(heard.get(), 5) == ("client_connected", {"id": address, "workspace": workspace})
        registered = await odd.register_service(
            {"id": "s", "config": {"visibility": "public"}, "add": lambda x: x + 1, "call": lambda f: f(2)}
        )
        assert registered.id == f"{address}:s"
        assert address in {client["id"] for client in await watcher.list_clients()}
        assert registered.id in {service["id"] for service in await watcher.list_services()}
        assert await watcher.ping(client_id) == "pong"
        service = await watcher.get_service(registered.id)
        assert service.id == registered.id
        assert await service.add(1) == 2
        assert await service.call(lambda x: x * 10) == 20
        async with httpx.AsyncClient(base_url=cluster.url, timeout=10) as http:
            path = f"/{workspace}/services/{quote(client_id, safe='')}:s/add?x=1"
            assert (await http.get(path)).json() == 2
        await odd.emit({"type": "snap", "to": "*", "data": 1})
        assert await asyncio.wait_for(heard.get(), 5) == ("snap", 1)

        await odd.disconnect()
        left = ("client_disconnected", {"id": client_id, "workspace": workspace})
        assert await asyncio.wait_for(heard.get(), 5) == left
        gone = await watcher.ping(client_id)
        assert gone == f"Failed to ping client {address}: Target peer {address} is not connected"

    async def test_active(self, cluster: RunningCluster, connect: Connect) -> None:
        """A registered client that answers keeps its id; one that does not loses it."""
        token = cluster.user_token("act")
        active = await connect(token=token, client_id="same")
        assert await _turned_away(cluster, client_id="same", token=token) == (
            1001,
            f"{FAILED}Client already exists and is active: ws-user-act/same",
        )
        assert await active.echo(1) == 1

    async def test_not_registered(self, cluster: RunningCluster) -> None:
        """Of two that registered nothing the later one stays; the other is cut off without a word."""
        token = cluster.user_token()
        same = {"client_id": "same", "token": token}
        async with raw_client(cluster.url, **same) as first, raw_client(cluster.url, **same) as second:
            assert (await first.ended()).code == 1006
            assert await second.manager("echo", 1) == 1

    async def test_at_the_same_time(self, cluster: RunningCluster) -> None:
        """However many come with one id, exactly one remains, and it works."""
        token = cluster.user_token()
        come = (enter(cluster.url, "same", token=token) for _ in range(8))
        came = await asyncio.gather(*come, return_exceptions=True)
        clients = [client for client in came if not isinstance(client, ConnectionClosed)]
        await asyncio.sleep(0.3)
        left = [client for client in clients if client.socket.close_code is None]
        assert len(left) == 1
        assert await left[0].manager("echo", 1) == 1
        await asyncio.gather(*(client.close() for client in clients))


class TestReconnection:
    async def test_with_its_token(self, cluster: RunningCluster) -> None:
        """A client comes back as who it was, with its first token or a refreshed one, and any number of times."""
        async with raw_client(cluster.url, "back") as client:
            await client.register()
            user, workspace = client.info["user"]["id"], client.workspace
            await client.socket.send('{"type":"refresh_token"}')
            tokens = [client.info["reconnection_token"], (await client.texts.get())["reconnection_token"]]
        for token in (*tokens, tokens[0]):
            async with raw_client(cluster.url, "back", reconnection_token=token, token="rubbish") as again:
                assert (again.info["user"]["id"], again.workspace) == (user, workspace)
                assert again.info["user"]["scope"]["workspaces"] == {workspace: "a"}
                assert await again.manager("echo", 1) == 1

    async def test_takes_the_place(self, cluster: RunningCluster) -> None:
        """The connection that it continues ends, though it is registered, and what is sent goes to the new one."""
        async with raw_client(cluster.url, "back") as first, raw_client(cluster.url) as other:
            await first.register()
            again = {"reconnection_token": first.info["reconnection_token"]}
            async with raw_client(cluster.url, "back", **again) as second:
                assert (await first.ended()).code == 1006
                await other.send({"type": "x", "to": second.address})
                assert (await second.frame())[0]["from"] == other.address

    async def test_of_another_client(self, cluster: RunningCluster) -> None:
        async with raw_client(cluster.url, "one") as client:
            token = client.info["reconnection_token"]
            assert await _turned_away(cluster, client_id="two", reconnection_token=token) == (
                1001,
                f"{UNKNOWN_USER}Client id mismatch, disconnecting",
            )
            assert await _turned_away(cluster, client_id="one", workspace="ws-x", reconnection_token=token) == (
                1001,
                f"{UNKNOWN_USER}Invalid scope, workspace mismatch: {client.workspace} != ws-x",
            )

    async def test_after_too_long(self, cluster: RunningCluster) -> None:
        """With an expired reconnection token its first token still lets a client in."""
        principal = Principal(id="lea", scope=Scope({"ws-user-lea": Permission.ADMIN}))
        expired = codec_of(cluster).reconnection_token(principal, "ws-user-lea", "c", 1, 1)
        await asyncio.sleep(1.2)
        async with raw_client(cluster.url, "c", token=cluster.user_token("lea"), reconnection_token=expired) as client:
            assert client.workspace == "ws-user-lea"
        assert await _turned_away(cluster, client_id="c", reconnection_token=expired) == (
            1008,
            f"{NO_AUTHENTICATION}The token has expired. Please fetch a new one",
        )


class TestLimits:
    async def test_clients_of_a_workspace(self, limited_cluster: RunningCluster) -> None:
        token = limited_cluster.user_token("max")
        async with raw_client(limited_cluster.url, token=token), raw_client(limited_cluster.url, token=token):
            assert await _turned_away(limited_cluster, token=token) == (
                1008,
                "Connection limit exceeded: workspace ws-user-max has 2/2 clients",
            )
        async with raw_client(limited_cluster.url, token=token):  # there is room again
            pass

    async def test_connections_of_a_user(self, limited_cluster: RunningCluster) -> None:
        """In whatever workspace they are."""
        token, url = limited_cluster.user_token("mia"), limited_cluster.url
        async with raw_client(url, token=token) as first, raw_client(url, token=token):
            await first.manager("create_workspace", {"name": "mia-lab"})
            async with raw_client(url, token=token, workspace="mia-lab"):
                assert await _turned_away(limited_cluster, token=token, workspace="mia-lab") == (
                    1008,
                    "Connection limit exceeded: user mia has 3/3 connections",
                )

    async def test_workspace_service_does_not_answer(self, start_cluster: Callable[..., RunningCluster]) -> None:
        """Then the connection is just closed: an error message would make the client give up for ever."""
        cluster = start_cluster()
        [workspace] = cluster.pids["workspace"]
        os.kill(workspace, signal.SIGSTOP)
        try:
            ended = await knock(cluster.url, {"client_id": "c"})
        finally:
            os.kill(workspace, signal.SIGCONT)
        assert (ended.code, ended.reason, ended.texts) == (1013, "Server busy, please retry", [])
        async with raw_client(cluster.url, "c") as client:
            assert await client.manager("echo", 1) == 1
        assert cluster.errors() == []
