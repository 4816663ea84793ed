"""
What clients send after the handshake: frames, texts and the websocket protocol itself (contract 01 §1.6 to §1.10).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import Any

import httpx
import msgpack
import psutil
import pytest
from websockets.frames import Opcode

from tests.cluster.raw_client import MANAGER, CallFailed, RawClient, encoded, knock, raw_client
from tests.cluster.raw_socket import open_websocket, ws_frame
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

pytestmark = pytest.mark.usefixtures("unharmed")

MIB = 2**20
LIMIT = 16 * MIB
ARRAY_TOO_DEEP = b"\x91" * 100_000


def _resident(cluster: RunningCluster) -> float:
    """Return MiB that the gateway holds."""
    return float(psutil.Process(cluster.pids["gateway"][0]).memory_info().rss / MIB)


def _gateway(cluster: RunningCluster) -> str:
    """Return the instance id of the gateway."""
    [started] = [json.loads(line) for line in cluster.log.splitlines() if '"gateway_started"' in line]
    return str(started["instance"])


def _header(**more: Any) -> dict[str, Any]:
    return {"type": "method", "to": "*/manager-hypha", "method": "services.default.echo", **more}


class TestMalformed:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\xc1", id="never used byte"),
            pytest.param(os.urandom(1000), id="noise"),
            pytest.param(b"\x85\xa4type", id="truncated"),
            pytest.param(msgpack.packb(["type", "method"]), id="list"),
            pytest.param(msgpack.packb("type"), id="text"),
            pytest.param(msgpack.packb({1: 2}), id="number as key"),
            pytest.param(msgpack.packb({b"type": b"method"}), id="bytes as key"),
            pytest.param(b"\x81\xa4type\xa2\xff\xfe", id="no UTF-8"),
            pytest.param(b"\x81\xa4type" + ARRAY_TOO_DEEP, id="bomb of lists"),
            pytest.param(b"\x81\xa4type" + b"\x81\xa1a" * 20_000, id="bomb of maps"),
            pytest.param(b"\xdf\xff\xff\xff\xff", id="map of 4 G"),
            pytest.param(b"\x81\xa4type\xdb\xff\xff\xff\xff", id="text of 4 G"),
            pytest.param(b"\x81\xa4type\xc9\xff\xff\xff\xff\x01", id="extension of 4 G"),
            pytest.param(b"\x81\x91\x01\x02", id="list as key"),
            pytest.param(b"\x81\xa4type\xc7\x0c\xff" + b"\xff" * 12, id="impossible time stamp"),
            pytest.param(encoded(_header(session="s", pad="x" * 70_000)), id="header of 70 kB"),
            pytest.param(encoded({**_header(session="s"), "to": None}, {}), id="no target"),
        ],
    )
    async def test_ignored(self, cluster: RunningCluster, data: bytes) -> None:
        """What makes no sense is dropped, and the connection stays."""
        async with raw_client(cluster.url) as client:
            await client.socket.send(data)
            assert await client.manager("echo", "still here") == "still here"

    @pytest.mark.parametrize("depth", [400, 505, 511, 600, 1000])
    async def test_deep_header(self, cluster: RunningCluster, depth: int) -> None:
        """Whether a nested header is taken or dropped, nothing breaks."""
        async with raw_client(cluster.url) as client:
            head = b"\x85" + encoded(_header(session="deep"))[1:] + msgpack.packb("x")
            await client.socket.send(head + b"\x91" * depth + b"\x01" + msgpack.packb({"args": [1]}))
            assert await client.manager("echo", 1) == 1

    @pytest.mark.parametrize(
        "extra",
        [
            b"\xc1",
            b"\x01",
            msgpack.packb({"args": 5, "promise": "*"}),
            msgpack.packb({"args": [1], "with_kwargs": True, "promise": "*"}),
            msgpack.packb({"args": [1], "promise": {"resolve": 1}}),
            b"\x81\xa4args" + ARRAY_TOO_DEEP,
            b"\x82\xa7promise\xa1*\xa4args\x91" + b"\x81\xa1a" * 1000 + b"\x01",
            b"\x81\xa4args\xdd\xff\xff\xff\xff",
        ],
        ids=lambda extra: repr(extra[:24]),
    )
    async def test_bad_arguments(self, cluster: RunningCluster, extra: bytes) -> None:
        """Of a call with a session whose arguments make no sense the caller hears, with the kind of error last."""
        async with raw_client(cluster.url) as client:
            answer = client.expect("s")
            await client.socket.send(encoded(_header(session="s")) + extra)
            with pytest.raises(CallFailed) as caught:
                await asyncio.wait_for(answer, 5)
            assert str(caught.value).splitlines()[-1].startswith(("ValueError: ", "TypeError: "))

    @pytest.mark.parametrize(
        "method",
        [
            pytest.param("i-a b c d.f", id="blanks"),
            pytest.param("i-\r\nPING\r\n", id="a command of the bus"),
            pytest.param("i-*.>.....x", id="wildcards"),
            pytest.param("i-ABCDEFGH-x.f", id="session of a replica that is not there"),
            pytest.param("i-", id="nothing"),
            pytest.param("services", id="incomplete"),
            pytest.param("services..", id="empty names"),
            pytest.param("a" * 60_000, id="long"),
        ],
    )
    async def test_bad_methods(self, cluster: RunningCluster, method: str) -> None:
        """A method that is not there fails at once, whatever its name would mean inside the cluster."""
        async with raw_client(cluster.url) as client:
            with pytest.raises(CallFailed, match=r"Method expired or not found|replica that was executing the call"):
                await asyncio.wait_for(client.call(method, 1), 5)
        assert "bus_disconnected" not in cluster.log

    @pytest.mark.parametrize("session", ["", "s" * 600, "s" * 60_000, "\U0001f600" * 256, "a.b c>*\r\n", 7, ["s"]])
    async def test_odd_sessions(self, cluster: RunningCluster, session: Any) -> None:
        """A session is the client's own affair; its answer names it."""
        async with raw_client(cluster.url) as client:
            await client.send(_header(session=session), {"args": [1], "promise": "*"})
            assert await client.manager("echo", 2) == 2
            if isinstance(session, str):
                assert await client.call("services.default.echo", 3, session=session or None) == 3
        assert "bus_disconnected" not in cluster.log


class TestSizes:
    async def test_too_large(self, cluster: RunningCluster) -> None:
        """17 MiB end the connection with 1009, and cost the gateway nothing that it keeps."""
        before = _resident(cluster)
        frame = ws_frame(Opcode.BINARY, encoded(_header()) + bytes(17 * MIB))
        for _ in range(4):
            async with open_websocket(cluster.url) as socket:
                sending = asyncio.create_task(socket.send(frame))
                assert await socket.close_code() == 1009
                sending.cancel()
        assert _resident(cluster) < before + 8

    async def test_only_announced(self, cluster: RunningCluster) -> None:
        """The announcement is enough."""
        async with open_websocket(cluster.url) as socket:
            await socket.send(b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big") + b"mask")
            assert await socket.close_code() == 1009
        async with open_websocket(cluster.url) as socket:
            await socket.send(b"\x82\xff" + (2**63).to_bytes(8, "big") + b"mask")
            assert await socket.close_code() == 1009

    async def test_first_message(self, cluster: RunningCluster) -> None:
        """Whoever has not said who they are may send little."""
        ended = await knock(cluster.url, json.dumps({"client_id": "c", "token": "x" * 100_000}))
        assert ended.code == 1009

    async def test_largest(self, two_gateways: RunningCluster) -> None:
        """16 MiB go through, on one gateway and from one to the other."""
        here, there = two_gateways.gateway_urls
        async with raw_client(here) as sender, raw_client(here) as near, raw_client(there) as far:
            for receiver in (near, far):
                head = encoded({"type": "blob", "to": receiver.address})
                body = os.urandom(LIMIT - len(head) - 5)
                extra = b"\xc6" + len(body).to_bytes(4, "big") + body
                await sender.socket.send(head + extra)
                header, received = await receiver.frame()
                assert header["from"] == sender.address
                assert hashlib.sha256(received).digest() == hashlib.sha256(body).digest()

    async def test_fragments(self, cluster: RunningCluster) -> None:
        """A message may come in pieces, with pings between them."""
        call = encoded(_header(session="s"), {"args": ["x"], "promise": "*"})
        async with open_websocket(cluster.url) as socket:
            await socket.send(ws_frame(Opcode.BINARY, call[:9], fin=False))
            await socket.send(ws_frame(Opcode.PING, b"p"))
            await socket.send(ws_frame(Opcode.CONT, b"", fin=False))
            await socket.send(ws_frame(Opcode.CONT, call[9:]))
            assert await socket.frame() == (Opcode.PONG, b"p")
            _, answer = await socket.frame()
            assert b"s.resolve" in answer

    async def test_fragments_that_are_too_much(self, cluster: RunningCluster) -> None:
        async with open_websocket(cluster.url) as socket:
            await socket.send(ws_frame(Opcode.BINARY, bytes(10 * MIB), fin=False))
            await socket.send(ws_frame(Opcode.CONT, bytes(7 * MIB), fin=False))
            assert await socket.close_code() == 1009

    async def test_empty_fragments(self, cluster: RunningCluster) -> None:
        """Pieces without content do not pile up."""
        before = _resident(cluster)
        async with open_websocket(cluster.url) as socket:
            await socket.send(ws_frame(Opcode.BINARY, b"", fin=False))
            pieces = ws_frame(Opcode.CONT, b"", fin=False) * 100_000
            for _ in range(20):
                await socket.send(pieces)
            await socket.send(ws_frame(Opcode.PING, b"done"))
            assert await socket.frame() == (Opcode.PONG, b"done")
            assert _resident(cluster) < before + 8


class TestTexts:
    async def test_control_messages(self, cluster: RunningCluster) -> None:
        async with raw_client(cluster.url) as client:
            await client.socket.send('{"type":"ping"}')
            assert await client.texts.get() == {"type": "pong"}
            await client.socket.send('{"type":"refresh_token"}')
            refreshed = await client.texts.get()
            assert set(refreshed) == {"type", "reconnection_token"}
            assert refreshed["type"] == "reconnection_token"

    async def test_other_texts_are_ignored(self, cluster: RunningCluster) -> None:
        """A frame sent as text, one that is long, and whatever else is no control message."""
        call = {**_header(session="s"), "args": [1], "promise": "*"}
        texts = [
            json.dumps(call),
            json.dumps({"type": "ping", "pad": "x" * 1000}),
            "",
            "ping",
            "[]",
            "7",
            '{"type":["ping"]}',
            '{"type":',
            "[" * 900,
            '{"type":"connection_info"}',
        ]
        async with raw_client(cluster.url) as client:
            for text in texts:
                await client.socket.send(text)
            await client.nothing()
            assert client.texts.empty()

    async def test_whoever_does_not_listen(self, cluster: RunningCluster) -> None:
        """Asking again and again without reading the answers fills no memory."""
        before = _resident(cluster)
        ask = ws_frame(Opcode.TEXT, b'{"type":"refresh_token"}') + ws_frame(Opcode.PING, b"x" * 125)
        async with open_websocket(cluster.url) as socket:
            for _ in range(60):
                socket.write(ask * 1000)
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert _resident(cluster) < before + 24


class TestProtocol:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            pytest.param(ws_frame(Opcode.BINARY, b"x", mask=False), 1002, id="not masked"),
            pytest.param(ws_frame(Opcode.BINARY, b"x", reserved=4), 1002, id="compressed"),
            pytest.param(ws_frame(Opcode.BINARY, b"x", reserved=1), 1002, id="reserved bit"),
            pytest.param(ws_frame(3, b"x"), 1002, id="reserved opcode"),
            pytest.param(ws_frame(11, b"x"), 1002, id="reserved control opcode"),
            pytest.param(b"\x09\x81mask\x00", 1002, id="fragmented ping"),
            pytest.param(b"\x89\xfe\x00\x80mask" + bytes(128), 1002, id="long ping"),
            pytest.param(ws_frame(Opcode.CONT, b"x"), 1002, id="continuation of nothing"),
            pytest.param(ws_frame(Opcode.BINARY, b"x", fin=False) * 2, 1002, id="message within a message"),
            pytest.param(ws_frame(Opcode.TEXT, b"\xff\xfe"), 1007, id="text that is no UTF-8"),
            pytest.param(b"\x88\x81mask\x00", 1002, id="close of one byte"),
            pytest.param(ws_frame(Opcode.CLOSE, b"\x03\xe8bye"), 1000, id="close"),
        ],
    )
    async def test_violations(self, cluster: RunningCluster, data: bytes, code: int) -> None:
        """Each ends with its close code, whether the client is known or not."""
        for authenticated in (True, False):
            async with open_websocket(cluster.url, authenticated=authenticated) as socket:
                await socket.send(data)
                assert await socket.close_code() == code

    async def test_end_in_the_middle(self, cluster: RunningCluster) -> None:
        """A connection that breaks off inside a frame is just gone."""
        async with open_websocket(cluster.url) as socket:
            await socket.send(ws_frame(Opcode.BINARY, bytes(MIB))[:5000])
        async with open_websocket(cluster.url) as socket:
            await socket.send(b"\x82")


class TestRouting:
    async def test_identity_is_not_to_be_forged(self, cluster: RunningCluster) -> None:
        """`from`, `ws` and `user` are what the server knows; other keys and the rest of the frame pass untouched."""
        async with raw_client(cluster.url) as sender, raw_client(cluster.url) as receiver:
            claimed = {"from": "*/manager-hypha", "ws": "ws-user-root", "user": {"id": "root", "roles": ["admin"]}}
            extra = {"args": [msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x"), b"\x00\xff"], "n": 2**64 - 1}
            await sender.send({"type": "m", "to": receiver.address, "more": [1], **claimed}, extra)
            header, received = await receiver.frame()
            assert header == {
                "type": "m",
                "more": [1],
                "from": sender.address,
                "to": receiver.address,
                "ws": sender.workspace,
                "user": sender.info["user"],
            }
            assert msgpack.packb(received) == msgpack.packb(extra)

    async def test_forms_of_a_target(self, cluster: RunningCluster) -> None:
        """Within the workspace the client id is enough."""
        token = cluster.user_token()
        async with raw_client(cluster.url, token=token) as sender, raw_client(cluster.url, token=token) as receiver:
            for to in (receiver.address.partition("/")[2], receiver.address):
                await sender.send({"type": "x", "to": to})
                assert (await receiver.frame())[0]["to"] == receiver.address

    @pytest.mark.parametrize(
        ("to", "text"),
        [
            (None, "Target is missing"),
            ("", "Target is missing"),
            (5, "Target is missing"),
            (["a"], "Target is missing"),
            ("ws-x/", "Target peer ws-x/ is not connected"),
            ("/x", "Target peer /x is not connected"),
            ("a/b/c", "Target peer a/b/c is not connected"),
            ("ws-nowhere/x", "Target peer ws-nowhere/x is not connected"),
            ("*/nobody", "Target peer */nobody is not connected"),
            ("ws.x >/a*b", "Target peer ws.x >/a*b is not connected"),
            ("ws-x/\r\nPING\r\n", "Target peer ws-x/\r\nPING\r\n is not connected"),
            ("ws-x/" + "y" * 9000, "is not connected"),
            ("y" * 60_000, "is not connected"),
            ("\U0001f600" * 250 + "/x", "is not connected"),
        ],
        ids=lambda value: str(value)[:20],
    )
    async def test_nobody_there(self, cluster: RunningCluster, to: Any, text: str) -> None:
        """A caller is told at once; where nobody waits for an answer nothing comes."""
        async with raw_client(cluster.url) as client:
            await client.send({"type": "method", "to": to, "method": "f"})
            await client.nothing()
            answer = client.expect("s")
            await client.send({"type": "method", "to": to, "method": "f", "session": "s"})
            with pytest.raises(CallFailed) as caught:
                await asyncio.wait_for(answer, 2)
            assert str(caught.value).endswith(text)
        assert "bus_disconnected" not in cluster.log

    async def test_absent_target(self, cluster: RunningCluster) -> None:
        async with raw_client(cluster.url) as client:
            answer = client.expect("s")
            await client.send({"type": "method", "method": "f", "session": "s"})
            with pytest.raises(CallFailed, match="Target is missing"):
                await asyncio.wait_for(answer, 2)

    async def test_peer_that_left(self, cluster: RunningCluster) -> None:
        async with raw_client(cluster.url) as client:
            async with raw_client(cluster.url) as peer:
                await client.send({"type": "x", "to": peer.address})
                await peer.frame()
            with pytest.raises(CallFailed, match=f"^Target peer {peer.address} is not connected$"):
                await client.call("f", to=peer.address)

    async def test_calls_that_nobody_answers(self, cluster: RunningCluster) -> None:
        """A client that asks for no answers, but says that it waits for some, costs little memory."""
        before = _resident(cluster)
        async with raw_client(cluster.url) as client:
            for number in range(2000):
                await client.send(
                    _header(method="services.default.check_status", session=f"s{number}", pad="x" * 60_000)
                )
                if number % 50 == 0:
                    await self._until_free(client)
            await self._until_free(client)
            assert _resident(cluster) < before + 40

    async def _until_free(self, client: RawClient) -> None:
        """Wait until the manager takes calls of this client again."""
        while True:
            try:
                await client.manager("check_status")
                return
            except CallFailed as error:
                assert "Too many calls" in str(error)  # noqa: PT017
                await asyncio.sleep(0.02)


class TestBroadcasts:
    async def test_within_the_workspace(self, cluster: RunningCluster) -> None:
        """Everybody there who subscribed to the type hears it, the sender too; both forms mean the same."""
        token = cluster.user_token()
        async with (
            raw_client(cluster.url, token=token) as sender,
            raw_client(cluster.url, token=token) as listener,
            raw_client(cluster.url, token=token) as other,
            raw_client(cluster.url) as stranger,
        ):
            for client in (sender, listener, stranger):
                await client.manager("subscribe", "snap")
            await other.manager("subscribe", ["snip", "snap!"])
            for to in ("*", f"{sender.workspace}/*"):
                await sender.send({"type": "snap", "to": to, "from": "x", "data": 1})
                for client in (sender, listener):
                    header, _ = await client.frame()
                    assert (header["to"], header["from"], header["data"]) == (
                        f"{sender.workspace}/*",
                        sender.address,
                        1,
                    )
                    assert header["user"] == sender.info["user"]
            await listener.manager("unsubscribe", "snap")
            await sender.send({"type": "snap", "to": "*"})
            await sender.frame()
            for client in (sender, listener, other, stranger):
                await client.nothing()

    @pytest.mark.parametrize("kind", [None, 7, ["snap"], "", "x" * 60_000, "\r\n>.*"])
    async def test_odd_types(self, cluster: RunningCluster, kind: Any) -> None:
        async with raw_client(cluster.url) as client:
            await client.manager("subscribe", "snap")
            await client.send({"type": kind, "to": "*"})
            await client.nothing()

    async def test_into_another_workspace(self, cluster: RunningCluster) -> None:
        """Refused with the reason, and nobody there hears anything."""
        async with raw_client(cluster.url) as sender, raw_client(cluster.url) as victim:
            await victim.manager("subscribe", ["snap", "service_added", "force-exit"])
            for to in (f"{victim.workspace}/*", "*/*", "public/*", "ws-nowhere/*"):
                for kind in ("snap", "service_added", "force-exit"):
                    answer = sender.expect("s")
                    await sender.send({"type": kind, "to": to})
                    await sender.send({"type": kind, "to": to, "session": "s", "method": "f"})
                    with pytest.raises(CallFailed, match=r"^Broadcasting into another workspace is not allowed: "):
                        await asyncio.wait_for(answer, 2)
            await victim.nothing()

    async def test_of_a_reader(self, cluster: RunningCluster) -> None:
        """Somebody who may only read may not tell everybody, in neither form; point to point is fine."""
        async with raw_client(cluster.url, token=cluster.user_token()) as owner:
            token = await owner.manager("generate_token", {"permission": "read"})
            await owner.manager("subscribe", "snap")
            async with raw_client(cluster.url, token=token) as reader:
                assert reader.workspace == owner.workspace
                text = (
                    f"Read-only client {reader.address} cannot broadcast messages. "
                    "Only point-to-point messages are allowed for read-only clients."
                )
                for to in ("*", f"{owner.workspace}/*", "ws-other/*"):
                    answer = reader.expect("s")
                    await reader.send({"type": "snap", "to": to, "session": "s"})
                    with pytest.raises(CallFailed) as caught:
                        await asyncio.wait_for(answer, 2)
                    assert str(caught.value) == text
                await reader.send({"type": "hello", "to": owner.address})
                assert (await owner.frame())[0]["type"] == "hello"
                await owner.nothing()


class TestSubscriptions:
    async def test_what_may_be_subscribed_to(self, cluster: RunningCluster) -> None:
        """Own names and system events, nothing that belongs to another workspace."""
        async with raw_client(cluster.url) as client:
            own = client.workspace
            for kind in ("service_added", "anything", "a b.c>*|", f"{own}/x", own, f"{own}:x", "force-exit", "*"):
                assert await client.manager("subscribe", kind) is True
                assert await client.manager("unsubscribe", kind) is True
            for kind in ("public/x", "x/y", "ws-other", "ws-other/x", "ws-other:x", "ws-user-root", "*/x", "/", ""):
                with pytest.raises(
                    CallFailed, match=r"ValueError: (Subscription to event '.*' is forbidden|Event type)"
                ):
                    await client.manager("subscribe", kind)
            for wrong in (None, [5], [["a"]], {"a": 1}, ["x"] * 1000, "x" * 10_000):
                with pytest.raises(CallFailed, match=r"ValueError|TypeError"):
                    await client.manager("subscribe", wrong)

    async def test_every_type_is_no_type(self, cluster: RunningCluster) -> None:
        """There is no way to hear everything: ``*`` is a name like another."""
        async with raw_client(cluster.url) as client:
            await client.manager("subscribe", ["*", ">", "sn*"])
            await client.send({"type": "snap", "to": "*"})
            await client.nothing()

    async def test_end_with_the_connection(self, cluster: RunningCluster) -> None:
        """A client that comes back subscribes again."""
        async with raw_client(cluster.url) as client:
            await client.manager("subscribe", "snap")
            first = {"client_id": client.info["client_id"], "reconnection_token": client.info["reconnection_token"]}
        async with raw_client(cluster.url, **first) as client:
            await client.send({"type": "snap", "to": "*"})
            await client.nothing()

    async def test_system_events_are_not_for_clients_to_make_elsewhere(self, cluster: RunningCluster) -> None:
        """A made-up system event stays in its workspace and names its sender."""
        async with raw_client(cluster.url) as client:
            await client.manager("subscribe", "service_added")
            await client.send({"type": "service_added", "to": "*", "data": {}})
            assert (await client.frame())[0]["from"] == client.address


class TestImpersonation:
    async def test_forged_answers(self, cluster: RunningCluster, connect: Connect) -> None:
        """An answer counts only if it comes from whoever was called."""
        provider, caller = await connect(), await connect()
        called: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        lied = asyncio.Event()

        async def ask(context: dict[str, Any]) -> str:
            called.set_result(context)
            await lied.wait()
            return "truth"

        config = {"visibility": "public", "require_context": True}
        registered = await provider.register_service({"id": "s", "config": config, "ask": ask})
        call = asyncio.ensure_future((await caller.get_service(registered.id)).ask())
        context = await asyncio.wait_for(called, 5)
        async with raw_client(cluster.url) as liar:
            lie = {
                "type": "method",
                "to": context["from"],
                "from": context["to"],
                "method": f"{context['session']}.resolve",
            }
            await liar.send(lie, {"args": ["lie"]})
            for kind in ("peer_not_found", "client_disconnected"):
                more = {"session": context["session"], "peer_id": context["to"], "data": {"id": context["to"]}}
                answer = liar.expect(context["session"])
                await liar.send({"type": kind, "to": context["from"], **more})
                with pytest.raises(CallFailed, match=f"A client must not send a message of type '{kind}'"):
                    await asyncio.wait_for(answer, 5)
        assert not call.done()
        lied.set()
        assert await asyncio.wait_for(call, 5) == "truth"

    async def test_forged_answers_to_the_manager(self, cluster: RunningCluster) -> None:
        """What the manager asks of one client another cannot answer."""
        token = cluster.user_token()
        async with (
            raw_client(cluster.url, token=token) as caller,
            raw_client(cluster.url, token=token) as silent,
            raw_client(cluster.url) as liar,
        ):
            asked = asyncio.ensure_future(caller.manager("ping", silent.address, 1.0))
            header, _ = await silent.frame()
            for to in ("*/manager-hypha", header["from"]):
                lie = {"type": "method", "to": to, "from": silent.address, "method": f"{header['session']}.resolve"}
                await liar.send(lie, {"args": ["pong"]})
            assert str(await asked).startswith(f"Failed to ping client {silent.address}: ")

    async def test_forged_answers_to_http(self, cluster: RunningCluster) -> None:
        """The gateway, calling for an HTTP request, believes only the provider."""
        async with raw_client(cluster.url) as provider, raw_client(cluster.url) as liar:
            await provider.register()
            schema = {"f": {"type": "function", "function": {"name": "f"}}}
            config = {"visibility": "public"}
            await provider.manager(
                "register_service", {"id": f"{provider.address}:s", "config": config, "service_schema": schema}
            )
            async with httpx.AsyncClient(base_url=cluster.url, timeout=10) as http:
                answer = asyncio.ensure_future(http.get(f"/{provider.workspace}/services/s/f"))
                header, _ = await provider.frame()
                while header["from"] == MANAGER:  # it asks for what it was not told at the registration
                    header, _ = await provider.frame()
                to, session = header["from"], header["session"]
                assert to == f"ws-anonymous/client-http-{_gateway(cluster)}"
                await liar.send({"type": "method", "to": to, "method": f"{session}.resolve"}, {"args": ["lie"]})
                await liar.send({"type": "peer_not_found", "to": to, "session": session, "peer_id": provider.address})
                await asyncio.sleep(0.2)
                assert not answer.done()
                await provider.send({"type": "method", "to": to, "method": f"{session}.resolve"}, {"args": ["truth"]})
                assert (await answer).json() == "truth"

    async def test_promise_of_somebody_else(self, cluster: RunningCluster) -> None:
        """The manager cannot be made to call others in its own name by giving it their functions as promise."""
        async with raw_client(cluster.url) as client, raw_client(cluster.url) as victim:
            for target in (victim.address, "*/manager-hypha", "public/hypha-auth"):
                ends = {
                    name: {
                        "_rtype": "method",
                        "_rtarget": target,
                        "_rmethod": f"services.secret.{name}",
                        "_rpromise": False,
                    }
                    for name in ("resolve", "reject", "heartbeat")
                }
                answer = client.expect("s")
                await client.send(_header(session="s"), {"args": ["x"], "promise": {**ends, "interval": 1.0}})
                with pytest.raises(CallFailed, match=r"Invalid promise|A promise must belong to the caller"):
                    await asyncio.wait_for(answer, 5)
            await victim.nothing()

    @pytest.mark.parametrize("client_id", ["manager-hypha", "hypha-auth", "hypha-workspace"])
    async def test_ids_of_the_cluster_elsewhere(self, cluster: RunningCluster, client_id: str) -> None:
        """In one's own workspace such an id is one like any other."""
        async with raw_client(cluster.url, client_id) as client:
            assert client.address == f"{client.workspace}/{client_id}"
            assert await client.manager("echo", 1) == 1

    @pytest.mark.parametrize("client_id", ["hypha-auth", "hypha-workspace", "hypha-apps", "hypha-artifacts"])
    async def test_ids_of_the_cluster(self, cluster: RunningCluster, client_id: str) -> None:
        """Not even root may be one of the cluster's own clients."""
        async with raw_client(cluster.url, token=cluster.root_token) as root:
            token = await root.manager("generate_token", {"workspace": "public", "permission": "admin"})
        ended = await knock(cluster.url, {"client_id": client_id, "workspace": "public", "token": token})
        assert ended.code == 1001
        assert ended.error == (
            f"Failed to establish connection: Client already exists and is active: public/{client_id}"
        )
        async with raw_client(cluster.url, "other", token=token, workspace="public") as other:
            await other.register()
            with pytest.raises(CallFailed, match="PermissionError: Service ID client 'hypha-auth' does not match"):
                await other.manager("register_service", {"id": "public/hypha-auth:evil"})

    async def test_id_of_http_calls(self, cluster: RunningCluster) -> None:
        """Answers to HTTP calls go to an id that no client can have."""
        async with raw_client(cluster.url, token=cluster.root_token) as root:
            token = await root.manager("generate_token", {"workspace": "public", "permission": "admin"})
        ended = await knock(
            cluster.url, {"client_id": f"client-http-{_gateway(cluster)}", "workspace": "public", "token": token}
        )
        assert ended.error.startswith("Failed to establish connection: Invalid client id: client-http-")


class TestLimits:
    async def test_rate(self, limited_cluster: RunningCluster) -> None:
        """Who sends too fast is told and closed; texts do not count."""
        async with raw_client(limited_cluster.url) as client:
            for _ in range(200):
                await client.socket.send('{"type":"ping"}')
            assert await client.manager("echo", 1) == 1
            for _ in range(200):
                await client.send({"type": "x", "to": client.address})
            ended = await client.ended()
            assert (ended.code, ended.reason) == (1008, "Rate limit exceeded: too many messages per second")

    async def test_idle(self, limited_cluster: RunningCluster) -> None:
        """Any frame or text keeps a connection; without one it ends."""
        async with raw_client(limited_cluster.url) as idle, raw_client(limited_cluster.url) as alive:

            async def keep() -> None:
                while True:
                    await alive.socket.send("anything")
                    await asyncio.sleep(0.5)

            keeping = asyncio.create_task(keep())
            ended = await idle.ended()
            assert (ended.code, ended.reason) == (1001, "Idle timeout (2s)")
            assert await alive.manager("echo", 1) == 1
            keeping.cancel()
