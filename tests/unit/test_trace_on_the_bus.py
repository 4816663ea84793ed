from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from hypha_common import trace
from hypha_common.bus import Bus
from hypha_common.envelope import Kind, call, frame, open_envelope
from hypha_common.errors import NotFound
from hypha_common.ids import new_id
from hypha_common.rpc import RpcPeer
from hypha_common.rpc.service import Service, rpc_method
from hypha_common.wire import pack, pack_frame, split_frame, unpack
from tests.fixtures.nats import NatsServer


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    server = NatsServer()
    yield server
    server.stop()


@pytest.fixture
async def buses(server: NatsServer) -> AsyncIterator[list[Bus]]:
    pair = [Bus(urls=[server.url], role=role, instance=new_id(8), on_fatal=pytest.fail) for role in ("one", "two")]
    for bus in pair:
        await bus.connect()
    yield pair
    for bus in pair:
        await bus.close()


@pytest.fixture
def context() -> Iterator[str]:
    """The trace that the test is in."""
    made = trace.new()
    token = trace.use(made)
    yield made
    trace.leave(token)


async def test_verbs(buses: list[Bus], context: str) -> None:
    """A handler runs in the trace of who asks, passes it on, and never sees it among what it is asked."""
    one, two = buses
    seen: list[tuple[str, dict[str, Any], str]] = []

    async def inner(message: dict[str, Any]) -> None:
        seen.append(("inner", message, trace.trace_id()))
        raise NotFound("nothing")

    async def outer(message: dict[str, Any]) -> Any:
        seen.append(("outer", message, trace.trace_id()))
        return await two.request("hy.r.two.1.inner", {})

    await two.serve("two", "inner", inner)
    await two.serve("two", "outer", outer)
    await two.flush()
    asked = {"n": 1}
    token = trace.use(context)  # fixtures have a context of their own
    with pytest.raises(NotFound):
        await one.request("hy.r.two.1.outer", asked)
    trace.leave(token)
    trace_id = trace.trace_id(context)
    assert seen == [("outer", {"n": 1}, trace_id), ("inner", {}, trace_id)]
    assert asked == {"n": 1}


async def test_verbs_of_an_older_process(buses: list[Bus]) -> None:
    """What asks without a trace is given one; what serves without knowing of it finds one more key."""
    one, two = buses
    ids: list[str] = []

    async def handler(message: dict[str, Any]) -> dict[str, Any]:
        ids.append(trace.trace_id())
        return message

    await two.serve("two", "verb", handler)
    await two.flush()
    for _ in range(2):
        assert await one.ask("hy.r.two.1.verb", pack({"n": 1}), timeout=5) == {"n": 1}
    assert len(set(ids)) == 2
    assert all(len(trace_id) == 32 for trace_id in ids)

    # As processes did before there were traces.
    async def answer(reply: str, payload: bytes) -> None:
        message = unpack(payload)
        two.publish(reply, pack([0, message["n"] * 2]))

    await two.subscribe(
        "hy.r.two.1.old", lambda _, reply, payload: asyncio.ensure_future(answer(reply, payload)) and None
    )
    await two.flush()
    token = trace.enter(None)
    assert await one.request("hy.r.two.1.old", {"n": 4}) == 8
    trace.leave(token)


class _Seen:
    def __init__(self) -> None:
        self.ids: list[str] = []

    @rpc_method
    async def later(self) -> str:
        """Tell the trace, in a task of its own."""
        await asyncio.sleep(0)
        return trace.trace_id()

    @rpc_method
    def now(self) -> str:
        """Tell the trace."""
        return trace.trace_id()


def _frame(method: str, **more: Any) -> bytes:
    head = {"type": "method", "from": "w/me", "to": "public/x", "ws": "w", "method": method, "session": "s"}
    return pack_frame({**head, "user": {"id": "u"}, **more}, {"args": [], "promise": "*"})


async def test_role_calls() -> None:
    """A method runs in the trace that the header names, valid or not; a gateway of before names none."""
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def send(frame: bytes, **how: Any) -> None:
        sent.put_nowait(unpack(frame[split_frame(frame)[1] :]))

    peer = RpcPeer(send=send, server_base_url="http://hub.example.org")
    peer.add_service(Service.of("seen", _Seen(), visibility="public"), addresses=["public/x"])
    context = trace.new()
    for method in ("now", "later"):
        for told, expected in (
            ({trace.KEY: context}, trace.trace_id(context)),
            ({}, None),
            ({trace.KEY: "x"}, None),
            ({trace.KEY: 5}, None),
        ):
            peer.receive(_frame(f"services.seen.{method}", **told))
            (answer,) = (await asyncio.wait_for(sent.get(), 5))["args"]
            assert answer == expected or (expected is None and len(answer) == 32 and answer != trace.trace_id(context))
            assert trace.current() == ""
    peer.receive(_frame("services.seen.none", **{trace.KEY: context}))
    (error,) = (await asyncio.wait_for(sent.get(), 5))["args"]
    assert error["_rvalue"] == "Method expired or not found: w/me:services.seen.none"
    assert error["error_id"] == trace.trace_id(context)
    await peer.close()


async def test_calls_carry_it() -> None:
    """A call that is made in a trace names it in its header; what answers does not."""
    heads: list[dict[str, Any]] = []
    peer = RpcPeer(send=lambda frame, **how: heads.append(split_frame(frame)[0]), server_base_url="http://h")
    token = trace.enter(None)
    context = trace.current()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await peer.call("w/you", "services.a.b", sender="public/x", workspace="public")
    trace.leave(token)
    assert heads[0][trace.KEY] == context
    await peer.close()


def test_envelopes_are_those_of_before() -> None:
    """Processes of different versions frame alike."""
    assert open_envelope(call(b"abcdefgh", 7, b"x")).generation == 7
    assert open_envelope(frame(b"abcdefgh", b"x")).kind is Kind.FRAME
