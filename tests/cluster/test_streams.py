"""
``/rpc`` by hand: how a stream is opened, fed and ended (contract 01 §1.13), and who may do so.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import msgpack
import pytest
from hypha_rpc import connect_to_server

from hypha_common.ids import new_id
from hypha_common.version import __version__
from tests.cluster.forged import codec_of, forged
from tests.cluster.frame_client import FrameClient
from tests.cluster.raw_client import CallFailed, encoded, knock, raw_client
from tests.cluster.raw_socket import raw_socket
from tests.cluster.running_cluster import RunningCluster
from tests.cluster.stream_client import raw_stream
from tests.fixtures.clients import Connect
from tests.fixtures.errors_told import told

pytestmark = pytest.mark.usefixtures("unharmed")

PING = encoded({"type": "ping"})


@pytest.fixture
async def http(cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=15) as client:
        yield client


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TestOpening:
    async def test_head_and_first_frame(self, cluster: RunningCluster) -> None:
        async with raw_stream(cluster.url, "c1") as stream:
            headers = stream.response.headers
            assert headers["content-type"] == "application/x-msgpack-stream"
            assert headers["cache-control"] == "no-cache"
            assert headers["connection"] == "keep-alive"
            assert headers["x-accel-buffering"] == "no"
            assert "content-encoding" not in headers
            assert re.search(r"; Path=/rpc; HttpOnly; SameSite=Strict$", headers["set-cookie"])
            user, token = stream.info.pop("user"), stream.info.pop("reconnection_token")
            assert user["is_anonymous"]
            assert user["scope"]["workspaces"] == {stream.workspace: "a"}
            assert stream.info == {
                "type": "connection_info",
                "hypha_version": __version__,
                "public_base_url": cluster.url,
                "local_base_url": cluster.url,
                "manager_id": "manager-hypha",
                "workspace": f"ws-user-{user['id']}",
                "client_id": "c1",
                "reconnection_token_life_time": 172800.0,
            }
            verified = codec_of(cluster).verify(token)
            assert (verified.workspace, verified.client_id) == (stream.workspace, "c1")

    async def test_client_id_is_invented(self, cluster: RunningCluster) -> None:
        async with raw_stream(cluster.url, client_id=None) as named:
            pass
        async with httpx.AsyncClient() as client, client.stream("GET", f"{cluster.url}/rpc") as response:
            frame = await anext(response.aiter_bytes())
            info = msgpack.unpackb(frame[4:])
            assert re.fullmatch(r"\w{22}", info["client_id"])
            assert info["workspace"] != named.workspace

    async def test_workspaces(self, cluster: RunningCluster) -> None:
        """The one that is asked for, else the token's, else the user's; ``public`` is nobody's wish."""
        token = cluster.user_token("stina")
        async with raw_stream(cluster.url, token=token) as owner:
            assert owner.workspace == "ws-user-stina"
            made = await owner.manager("create_workspace", {"name": f"made-{new_id(6).lower()}"}, True)
            bound = await owner.manager("generate_token", {"workspace": made["id"]})
        for query, with_token, expected in (
            ({"workspace": made["id"]}, token, made["id"]),
            ({"workspace": "public"}, token, "ws-user-stina"),
            ({}, bound, made["id"]),
            ({"workspace": "public"}, bound, made["id"]),
        ):
            async with raw_stream(cluster.url, token=with_token, **query) as stream:
                assert stream.workspace == expected
        async with raw_stream(cluster.url, workspace="public") as stream:
            assert stream.workspace == f"ws-user-{stream.info['user']['id']}"

    async def test_refused(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        """Each with the status and the text that the transport has for it."""
        token = cluster.user_token()
        async with raw_client(cluster.url, "here", token=cluster.user_token()) as other:
            reconnection = other.info["reconnection_token"]
            read = await other.manager("generate_token", {"permission": "read", "client_id": "one"})
            cases: list[tuple[dict[str, str], str, int, str]] = [
                ({}, "rubbish", 401, "Error decoding token headers."),
                ({}, forged(cluster, key="k" * 40), 401, "Signature verification failed."),
                ({}, forged(cluster, exp=1), 401, "The token has expired. Please fetch a new one"),
                ({"reconnection_token": "x"}, "", 401, "Invalid reconnection token: Error decoding token headers."),
                ({"reconnection_token": token}, "", 401, "Invalid reconnection token: Invalid token type: "),
                ({}, reconnection, 401, "Invalid token type: reconnection token where access token is needed"),
                ({"workspace": other.workspace}, token, 403, f"Permission denied for workspace {other.workspace}"),
                ({"workspace": other.workspace}, "", 403, f"Permission denied for workspace {other.workspace}"),
                ({"workspace": "ws-user-root"}, "", 403, "Permission denied for workspace ws-user-root"),
                ({"client_id": "two"}, read, 403, "Failed to authenticate user: Client id mismatch: this token is"),
                (
                    {"client_id": "two", "reconnection_token": reconnection},
                    "",
                    403,
                    "Failed to authenticate user: Client id mismatch, disconnecting",
                ),
                (
                    {"client_id": "here", "reconnection_token": reconnection, "workspace": "ws-x"},
                    "",
                    403,
                    "Failed to authenticate user: Invalid scope, workspace mismatch",
                ),
                ({"workspace": "ws-nowhere"}, token, 404, "Workspace ws-nowhere does not exist or is not accessible"),
                ({"workspace": "*"}, token, 404, "Workspace * does not exist or is not accessible"),
                ({"workspace": "w" * 300}, token, 404, "Workspace www"),
                ({"client_id": "a/b"}, token, 400, "Invalid client id: a/b"),
                ({"client_id": "a:b"}, token, 400, "Invalid client id: a:b"),
                ({"client_id": "client-http-x"}, token, 400, "Invalid client id: client-http-x"),
                ({"client_id": "c" * 300}, token, 400, "Invalid client id: ccc"),
                ({"client_id": "a\nb"}, "", 400, "Invalid client id: a\nb"),
            ]
            for query, bearer, status, detail in cases:
                headers = _bearer(bearer) if bearer else {}
                response = await http.get("/rpc", params={"client_id": "c", **query}, headers=headers)
                assert (response.status_code, response.json()["detail"][: len(detail)]) == (status, detail)
                assert response.json().get("success", False) is False
                assert "set-cookie" not in response.headers
                assert ("www-authenticate" in response.headers) == (status == 401)
            assert await other.manager("echo", 1) == 1

    async def test_other_methods(self, http: httpx.AsyncClient) -> None:
        for method in ("HEAD", "PUT", "DELETE"):
            response = await http.request(method, "/rpc")
            assert response.status_code == 405
            assert {name.strip() for name in response.headers["allow"].split(",")} >= {"GET", "POST"}

    async def test_active_client_keeps_its_id(self, cluster: RunningCluster, connect: Connect, http: Any) -> None:
        token = cluster.user_token("otto")
        for transport in ("http", "websocket"):
            active = await connect(token=token, client_id=transport, transport=transport)
            response = await http.get("/rpc", params={"client_id": transport}, headers=_bearer(token))
            assert response.status_code == 409
            assert response.json()["detail"] == f"Client already exists and is active: ws-user-otto/{transport}"
            ended = await knock(cluster.url, {"client_id": transport, "token": token})
            assert ended.error.endswith(f"Client already exists and is active: ws-user-otto/{transport}")
            assert await active.echo(1) == 1

    async def test_later_one_wins(self, cluster: RunningCluster) -> None:
        """Of the same client: the older stream, or websocket, ends, and what is sent goes to the newer."""
        token = cluster.user_token()
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(raw_stream(cluster.url, "same", token=token))
            second = await stack.enter_async_context(raw_stream(cluster.url, "same", token=token))
            assert await first.ended()
            assert await second.manager("echo", 1) == 1
            third = await stack.enter_async_context(raw_client(cluster.url, "same", token=token))
            assert await second.ended()
            fourth = await stack.enter_async_context(raw_stream(cluster.url, "same", token=token))
            assert (await third.ended()).code == 1006
            other = await stack.enter_async_context(raw_client(cluster.url))
            await other.send({"type": "x", "to": fourth.address})
            assert (await fourth.frame())[0]["type"] == "x"

    async def test_reconnection(self, cluster: RunningCluster) -> None:
        """With its token a registered client takes its own place, as who it was; a refreshed token does, too."""
        async with raw_stream(cluster.url, "back") as first:
            await first.register()
            user, address = first.info["user"]["id"], first.address
            tokens = [first.info["reconnection_token"]]
            await first.post(encoded({"type": "refresh_token"}))
            tokens.append((await first.control())["reconnection_token"])
            for token in tokens:
                async with raw_stream(cluster.url, "back", reconnection_token=token, http=first.http) as again:
                    assert (again.info["user"]["id"], again.address) == (user, address)
                    assert await again.manager("echo", 1) == 1
            assert await first.ended()

    async def test_across_transports(self, cluster: RunningCluster) -> None:
        """A reconnection token of a websocket opens a stream, and the other way round."""
        async with raw_client(cluster.url, "back") as socket:
            pass
        async with raw_stream(cluster.url, "back", reconnection_token=socket.info["reconnection_token"]) as stream:
            assert stream.address == socket.address
        async with raw_client(cluster.url, "back", reconnection_token=stream.info["reconnection_token"]) as again:
            assert again.address == socket.address

    async def test_not_ready(self, start_cluster: Callable[..., RunningCluster]) -> None:
        """While it stops, a gateway opens no stream, ends those it has as HTTP does, and takes no stateless call."""
        cluster = start_cluster("--drain-window=2")
        async with raw_stream(cluster.url) as stream, httpx.AsyncClient(base_url=cluster.url) as http:
            assert (await http.get("/health/liveness")).status_code == 200  # a connection that is there already
            os.kill(cluster.pids["gateway"][0], signal.SIGTERM)
            assert await stream.ended()
            assert await stream.control() == {"type": "error", "message": "Server is shutting down"}
            response = await http.get("/rpc", params={"client_id": "late"})
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
        assert cluster.errors() == []


class TestPosts:
    async def test_control_messages(self, cluster: RunningCluster) -> None:
        async with raw_stream(cluster.url) as stream:
            response = await stream.post(PING)
            assert (response.status_code, response.content) == (200, b"")
            assert await stream.control() == {"type": "pong"}
            await stream.post(encoded({"type": "refresh_token"}))
            answer = await stream.control()
            assert answer["type"] == "reconnection_token"
            assert codec_of(cluster).verify(answer["reconnection_token"]).client_id == stream.info["client_id"]

    async def test_frames_are_stamped(self, cluster: RunningCluster) -> None:
        """As on a websocket: whatever the client claims, it speaks as itself."""
        async with raw_stream(cluster.url) as stream, raw_client(cluster.url) as other:
            claims = {"from": "zzz", "ws": "spoof", "user": {"id": "root"}}
            header = {"type": "method", "to": other.address, "method": "x.y", "more": 1}
            await stream.send({**header, **claims}, {"args": [1]})
            header, extra = await other.frame()
            assert extra == {"args": [1]}
            assert header == {
                "type": "method",
                "from": stream.address,
                "to": other.address,
                "ws": stream.workspace,
                "user": stream.info["user"],
                "method": "x.y",
                "more": 1,
            }

    async def test_order(self, cluster: RunningCluster) -> None:
        """Frames that are POSTed one after another arrive so, and those for the stream, too."""
        async with raw_stream(cluster.url) as stream, raw_client(cluster.url) as other:
            for number in range(50):
                await stream.send({"type": "x", "to": other.address, "n": number})
                await other.send({"type": "x", "to": stream.address, "n": number})
            assert [(await other.frame())[0]["n"] for _ in range(50)] == list(range(50))
            assert [(await stream.frame())[0]["n"] for _ in range(50)] == list(range(50))

    @pytest.mark.parametrize(
        ("query", "body", "detail"),
        [
            ({"client_id": ""}, PING, "client_id is required"),
            ({}, b"", "Empty request body"),
            ({"client_id": "a/b"}, PING, "Invalid client id: a/b"),
            ({"workspace": ""}, PING, "workspace is required"),
            ({}, b"\xc1", "Invalid frame header"),
            ({}, b"\x93\x01\x02\x03", "A frame header must be a map"),
            ({}, b"\x81", "Incomplete frame header"),
            ({}, b"{}", "A frame header must be a map"),
        ],
    )
    async def test_bad(self, cluster: RunningCluster, query: dict[str, str], body: bytes, detail: str) -> None:
        async with raw_stream(cluster.url) as stream:
            response = await stream.post(body, **query)
            assert (response.status_code, response.json()["success"]) == (400, False)
            assert response.json()["detail"].startswith(detail)
            assert await stream.manager("echo", 1) == 1

    async def test_too_large(self, cluster: RunningCluster) -> None:
        async with raw_stream(cluster.url) as stream:
            body = encoded({"type": "x", "to": "nobody"}, {"args": [bytes(16 * 2**20)]})
            response = await stream.post(body)
            assert response.status_code == 413
            body = encoded({"type": "x", "to": stream.address}, {"args": [bytes(15 * 2**20)]})
            assert (await stream.post(body)).status_code == 200
            _, extra = await stream.frame()
            assert len(extra["args"][0]) == 15 * 2**20

    async def test_nobody_there(self, cluster: RunningCluster) -> None:
        """A call to nobody is rejected on the stream; without a session it is dropped."""
        async with raw_stream(cluster.url) as stream:
            with pytest.raises(CallFailed, match=r"^Target peer ws-x/nobody is not connected$"):
                await stream.call("services.x.f", to="ws-x/nobody")
            await stream.send({"type": "method", "to": "ws-x/nobody", "method": "x"})
            await stream.nothing()

    async def test_no_stream(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        """400, which clients try again: the stream may be on its way."""
        async with raw_stream(cluster.url) as stream:
            pass
        frame = encoded({"type": "method", "to": "*/manager-hypha", "method": "services.default.echo", "session": "s"})
        for body in (frame, PING):
            response = await stream.post(body, http=http)
            assert response.status_code == 400
            assert response.json()["detail"].startswith(("No stream is open for client", "Stateless calls require"))

    async def test_messages_of_the_server_cannot_be_forged(self, cluster: RunningCluster) -> None:
        """Clients take them from the stream whoever sends them; so nobody else may."""
        async with raw_stream(cluster.url) as stream, raw_client(cluster.url) as evil:
            for kind in ("connection_info", "reconnection_token", "ping", "pong", "error"):
                await evil.send({"type": kind, "to": stream.address, "reconnection_token": "x", "workspace": "x"})
                await stream.post(encoded({"type": kind, "to": stream.address}))
            await evil.send({"type": "last", "to": stream.address})
            assert (await stream.frame())[0]["type"] == "last"
            assert stream.controls.empty()


class TestIdentity:
    """Workspace and client id are known to everybody a client talks to: they open nothing."""

    async def test_anonymous(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        """Only whoever has the cookie of the stream speaks for it."""
        async with raw_stream(cluster.url) as stream, raw_client(cluster.url) as witness:
            assert (await stream.post(PING)).status_code == 200
            await stream.control()
            frame = encoded({"type": "x", "to": witness.address})
            for headers in (
                {},
                _bearer(cluster.user_token()),
                _bearer(cluster.root_token),
                {"Cookie": stream.response.headers["set-cookie"].split("=")[0] + "=guess"},
                {"X-Forwarded-For": "198.51.100.7"},
            ):
                response = await http.post("/rpc", params=stream.query, content=frame, headers=headers)
                assert response.status_code == 403
                assert response.json()["detail"] == (
                    f"Only the client that opened the stream of {stream.address} may send for it"
                )
            assert (
                await http.post("/rpc", params=stream.query, content=frame, headers=_bearer("x"))
            ).status_code == 401
            assert witness.frames.empty()
            await stream.send({"type": "x", "to": witness.address})
            assert (await witness.frame())[0]["from"] == stream.address

    async def test_cookie_is_of_one_stream(self, cluster: RunningCluster) -> None:
        async with raw_stream(cluster.url) as one, raw_stream(cluster.url) as two:
            for stream in (one, two):
                assert (await stream.post(PING)).status_code == 200
            assert (await one.post(PING, http=two.http)).status_code == 403

    async def test_client_without_cookies(self, cluster: RunningCluster) -> None:
        """Whoever shows no cookie must come from where the stream was opened, and no longer once one was shown."""
        here, there = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}
        async with (
            httpx.AsyncClient(headers=here) as opener,
            httpx.AsyncClient(headers=here) as same,
            httpx.AsyncClient(headers=there) as stranger,
            raw_stream(cluster.url, http=opener) as stream,
        ):
            assert (await stream.post(PING, http=stranger)).status_code == 403
            assert (await stream.post(PING, http=same)).status_code == 200
            assert (await stream.post(PING, http=stranger)).status_code == 403
            assert (await stream.post(PING)).status_code == 200
            assert (await stream.post(PING, http=same)).status_code == 403

    async def test_cookie_is_expected_of_who_comes_back_with_one(
        self, cluster: RunningCluster, http: httpx.AsyncClient
    ) -> None:
        """By then others know the address of the client; they get no chance to be first."""
        async with httpx.AsyncClient() as own:
            async with raw_stream(cluster.url, "back", http=own) as stream:
                token = stream.info["reconnection_token"]
            async with raw_stream(cluster.url, "back", reconnection_token=token, http=own) as again:
                assert (await again.post(PING, http=http)).status_code == 403
                assert (await again.post(PING)).status_code == 200

    async def test_token(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        """The user's tokens speak for a stream that one of them opened; cookies and other people's do not."""
        user = f"user-{new_id(6).lower()}"
        async with raw_stream(cluster.url, token=cluster.user_token(user)) as stream:
            read = await stream.manager("generate_token", {"permission": "read"})

            async def post(headers: dict[str, str]) -> int:
                return (await http.post("/rpc", params=stream.query, content=PING, headers=headers)).status_code

            assert await post(_bearer(cluster.user_token(user))) == 200
            assert await post({}) == 403
            assert await post({"Cookie": stream.response.headers["set-cookie"].split(";")[0]}) == 403
            assert await post(_bearer(cluster.user_token())) == 403
            assert await post(_bearer(read)) == 403
            assert await post(_bearer(cluster.root_token)) == 403
            assert await post(_bearer(stream.info["reconnection_token"])) == 200
            assert await post({"Cookie": f"access_token={cluster.user_token(user)}"}) == 403

    async def test_token_that_has_expired(self, cluster: RunningCluster) -> None:
        """As on a websocket: who is in stays in."""
        token = forged(cluster, exp=int(time.time()) + 2)
        async with raw_stream(cluster.url, token=token) as stream:
            await asyncio.sleep(2.2)
            assert (await stream.post(PING)).status_code == 200
            assert (await stream.http.get(f"{cluster.url}/rpc", headers=_bearer(token))).status_code == 401

    async def test_reconnection_token_as_proof(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        async with raw_stream(cluster.url) as stream, raw_stream(cluster.url) as other:
            await stream.post(PING)
            mine = {"reconnection_token": stream.info["reconnection_token"]}
            theirs = {"reconnection_token": other.info["reconnection_token"]}
            assert (await stream.post(PING, http=http, **mine)).status_code == 200
            assert (await stream.post(PING, http=http, **theirs)).status_code == 403

    async def test_across_gateways(self, two_gateways: RunningCluster) -> None:
        """The same at the gateway that does not have the stream."""
        first, second = two_gateways.gateway_urls
        async with httpx.AsyncClient() as stranger, raw_client(second) as witness:
            async with raw_stream(first, post_url=second) as stream:
                for number in range(20):
                    await stream.send({"type": "x", "to": witness.address, "n": number})
                assert [(await witness.frame())[0]["n"] for _ in range(20)] == list(range(20))
                assert (await stream.post(PING, http=stranger)).status_code == 403
                body = encoded({"type": "x", "to": stream.address}, {"args": [bytes(3 * 2**20)]})
                assert (await stream.post(body)).status_code == 200
                assert len((await stream.frame())[1]["args"][0]) == 3 * 2**20
                assert (await stream.post(b"\xc1")).status_code == 400
            frame = encoded({"type": "method", "to": "*/manager-hypha", "method": "services.default.echo"})
            assert (await stream.post(frame, http=stranger)).status_code == 400
            token = two_gateways.user_token()
            async with raw_stream(first, "t", post_url=second, token=token) as stream:
                assert await stream.manager("echo", 1) == 1
                assert (await stream.post(PING, http=stranger)).status_code == 403
                async with raw_stream(second, "t", post_url=first, token=token) as later:
                    assert await stream.ended()
                    assert await later.manager("echo", 2) == 2

    async def test_revoked(self, cluster: RunningCluster) -> None:
        """The stream of a token ends with it."""
        async with raw_stream(cluster.url, token=cluster.user_token()) as owner:
            token = await owner.manager("generate_token")
            async with raw_stream(cluster.url, "child", token=token) as child:
                await owner.manager("revoke_token", token)
                assert await child.ended()
                assert (await child.control())["message"] == "Authentication error: Token has been revoked"
                assert (await child.post(PING)).status_code in (400, 401)

    async def test_kicked_and_blocked(self, cluster: RunningCluster) -> None:
        """Administrators end a stream as they end a websocket; the reason is told, and whoever may comes back."""
        async with (
            connect_to_server({"server_url": cluster.url, "token": cluster.root_token}) as root,
            raw_stream(cluster.url, "kicked") as stream,
        ):
            admin = await root.get_service("ws-user-root/admin-utils")
            await admin.kickout_client(stream.workspace, "kicked", 1000, "Not now")
            assert await stream.ended()
            assert await stream.control() == {"type": "error", "message": "Not now"}
            again = {"reconnection_token": stream.info["reconnection_token"]}
            async with raw_stream(cluster.url, "kicked", http=stream.http, **again) as back:
                await admin.block_user(back.info["user"]["id"], 60, "spam")
                assert await back.ended()
                assert await back.control() == {"type": "error", "message": "User is blocked: spam"}
                assert back.controls.empty()
                refused = await stream.http.get(f"{cluster.url}/rpc", params={"client_id": "kicked", **again})
                assert (refused.status_code, refused.json()["detail"]) == (403, "User is blocked: spam")
            await admin.unblock_user(stream.info["user"]["id"])


class TestStateless:
    async def _post(
        self, http: httpx.AsyncClient, message: Any, *, token: str = "", **query: str
    ) -> tuple[int, dict[str, Any]]:
        params = {"client_id": "nobody", **query}
        body = msgpack.packb(message)
        response = await http.post("/rpc", params=params, content=body, headers=_bearer(token) if token else {})
        return response.status_code, response.json() if response.is_success else told(response)

    async def test_calls(self, cluster: RunningCluster, connect: Connect, http: httpx.AsyncClient) -> None:
        token = cluster.user_token()
        provider = await connect(token=token)

        def fail(kind: str) -> None:
            raise PermissionError("not you") if kind == "permission" else ValueError("bad thing")

        def who(context: dict[str, Any]) -> list[str]:
            return [context["user"]["id"], context["ws"]]

        def count() -> Any:
            yield 1

        service = {
            "id": "s",
            "config": {"require_context": ["who"]},
            "add": lambda a, b=10: a + b,
            "fail": fail,
            "who": who,
            "count": count,
            "data": lambda: b"\x00",
        }
        service_id = (await provider.register_service(service)).id
        workspace, _, local = service_id.partition("/")
        client, user = local.partition(":")[0], provider.config.user["id"]
        read = await provider.generate_token({"permission": "read"})
        write = await provider.generate_token({"permission": "read_write"})
        add = {"type": "method", "to": local, "method": "add", "args": [1, 2]}

        async def post(**changes: Any) -> tuple[int, dict[str, Any]]:
            return await self._post(http, {**add, **changes}, token=token, workspace=workspace)

        ok = (200, {"success": True, "result": 3})
        for to in (local, service_id, "*:s", f"{workspace}/*:s"):
            assert await post(to=to) == ok
        assert await self._post(http, add, token=token) == ok  # the token's own workspace
        assert await self._post(http, add, token=write) == ok
        assert await post(args=[1]) == (200, {"success": True, "result": 11})
        assert await post(args=[], kwargs={"a": 1, "b": 1}) == (200, {"success": True, "result": 2})
        assert await post(method="who", args=None) == (200, {"success": True, "result": [user, workspace]})

        refused = {"success": False, "detail": f"Permission denied for workspace: {workspace}"}
        assert await self._post(http, add, token=read, workspace=workspace) == (403, refused)
        assert await self._post(http, add, workspace=workspace) == (403, refused)
        assert await self._post(http, add, token=cluster.user_token(), workspace=workspace) == (403, refused)

        for changes, status, detail in (
            ({"type": "event"}, 400, "Stateless calls require type='method'"),
            ({"type": None}, 400, "Stateless calls require type='method'"),
            ({"to": None}, 400, "Invalid target: None"),
            ({"to": "a/b/c:d"}, 400, "Invalid target: 'a/b/c:d'"),
            ({"to": client}, 400, "No stream is open for client"),
            ({"to": ":s"}, 400, "No stream is open for client"),
            ({"to": f"{client}:"}, 400, "No stream is open for client"),
            ({"method": ""}, 400, "method is required"),
            ({"method": 5}, 400, "method is required"),
            ({"args": 5}, 400, "args must be a list and kwargs a map"),
            ({"kwargs": [1]}, 400, "args must be a list and kwargs a map"),
            ({"method": "nothing"}, 404, "Method 'nothing' not found"),
            ({"to": "nobody:s"}, 404, "RemoteException: KeyError: 'Service not found: "),
            ({"method": "fail", "args": ["value"]}, 500, "RemoteException: ValueError: bad thing"),
            ({"method": "fail", "args": ["permission"]}, 403, "RemoteException: PermissionError: not you"),
            ({"method": "count", "args": []}, 406, "The method returns a generator"),
            ({"method": "data", "args": []}, 406, "The result cannot be written as JSON"),
        ):
            code, answer = await post(**changes)
            assert (code, answer["success"]) == (status, False), answer
            assert answer["detail"].startswith(detail), answer


class TestBackPressure:
    @pytest.mark.parametrize("post_at", [0, 1], ids=["own gateway", "other gateway"])
    async def test_receiver_that_reads_slowly(self, two_gateways: RunningCluster, post_at: int) -> None:
        """POSTs wait while their receiver takes no more, and nothing is lost or changes its place."""
        url, frames = two_gateways.gateway_urls[0], 24
        async with (
            await FrameClient.connect(url, "slow") as slow,
            raw_stream(url, post_url=two_gateways.gateway_urls[post_at]) as stream,
        ):
            accepted = 0

            async def send() -> None:
                nonlocal accepted
                for number in range(frames):
                    await stream.send({"type": "x", "to": slow.address, "n": number}, {"data": bytes(2**20)})
                    accepted += 1

            sending = asyncio.create_task(send())
            await asyncio.sleep(3)
            assert 0 < accepted < frames
            assert (await stream.post(PING)).status_code == 200  # what is no frame need not wait
            assert [(await slow.receive())[0]["n"] for _ in range(frames)] == list(range(frames))
            await sending


class TestConnections:
    async def test_client_that_leaves(self, cluster: RunningCluster) -> None:
        """However it leaves, it is known to be gone at once."""
        async with raw_client(cluster.url) as other:
            for abrupt in (False, True):
                async with raw_socket(cluster.url) as socket:
                    await socket.send(b"GET /rpc?client_id=gone HTTP/1.1\r\nHost: x\r\n\r\n")
                    await socket.head()
                    data = await socket.chunk()
                    info = msgpack.unpackb(data[4:])
                    address = f"{info['workspace']}/gone"
                    await other.send({"type": "x", "to": address})
                    assert await socket.chunk()
                    if abrupt:
                        socket.close()
                await asyncio.sleep(0.2)
                with pytest.raises(CallFailed, match="is not connected"):
                    await other.call("f", to=address)
