from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy
import pytest
from hypha_rpc.rpc import RPC, RemoteException
from hypothesis import given, settings
from hypothesis import strategies as st
from rpc_support import SERVER, Switch, principal
from structlog.testing import capture_logs

from hypha_common.errors import (
    DeadlineExceeded,
    HyphaError,
    NotFound,
    PeerNotFound,
    PermissionDenied,
    Unavailable,
)
from hypha_common.ids import Address
from hypha_common.rpc import Caller, RemoteError, RpcPeer, Service, rpc_method
from hypha_common.wire import Stamp, pack_frame

MANAGER = "*/manager-hypha"
HOST = "public/hypha-auth"

WORDS = ["_rtype", "_rvalue", "_rtarget", "_rmethod", "_rdtype", "_rshape", "resolve", "reject", "interval", "a"]
METHODS = [
    "services.default.echo",
    "services.default.add",
    "services.default.whoami",
    "services.default.count",
    "services.built-in.get_service",
    "services.built-in.message_cache.create",
    "services.built-in.message_cache.set",
    "services.built-in.message_cache.process",
    "s1.resolve",
    "s1.x",
]


class Sample:
    """Methods of every kind."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.cancelled = asyncio.Event()

    @rpc_method
    async def echo(self, data: Any) -> Any:
        """Return what came."""
        return data

    @rpc_method
    def add(self, a: float, b: float = 1) -> float:
        """
        Add two numbers.

        Args:
            a: one number
            b: another one

        """
        return a + b

    @rpc_method(name="math.negate")
    def negate(self, a: int) -> int:
        """Negate a number."""
        return -a

    @rpc_method
    def whoami(self, *, context: Caller) -> dict[str, Any]:
        """Tell what the server knows of the caller."""
        return {
            "user": context.principal.id,
            "workspace": context.workspace,
            "from": str(context.sender),
            "to": str(context.target),
        }

    @rpc_method
    async def apply(self, function: Any, *args: Any) -> Any:
        """Call back."""
        return [await function(*args), await function(*args)]

    @rpc_method
    async def fail(self, kind: str) -> None:
        """Fail."""
        if kind == "typed":
            raise NotFound("Service not found: x")
        if kind == "silent":
            raise TimeoutError
        raise ValueError("bad thing")

    @rpc_method
    def count(self, n: int) -> Iterator[int]:
        """Count."""
        yield from range(n)

    @rpc_method
    async def count_async(self, n: int) -> AsyncIterator[int]:
        """Count slowly."""
        try:
            for number in range(n):
                await asyncio.sleep(0)
                yield number
        finally:
            self.closed.set()

    @rpc_method
    def make_adder(self, a: int) -> Any:
        """Return a function."""

        def adder(b: int) -> int:
            return a + b

        return adder

    @rpc_method
    async def sleep(self, seconds: float) -> str:
        """Sleep."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "slept"

    @rpc_method
    def unsendable(self) -> Any:
        """Return what msgpack has no form for."""
        return {"a": object()}


@pytest.fixture
async def switch() -> AsyncIterator[Switch]:
    switch = Switch()
    yield switch
    await switch.close()


@pytest.fixture
def sample() -> Sample:
    return Sample()


@pytest.fixture
def peer(switch: Switch, sample: Sample) -> RpcPeer:
    peer = switch.peer([MANAGER, HOST])
    peer.add_service(Service.of("default", sample, visibility="public"), addresses=[MANAGER])
    peer.add_service(Service.of("guarded", sample), addresses=[HOST])
    return peer


async def service_of(client: RPC, address: str, service_id: str) -> Any:
    return await client.get_remote_service(f"{address}:{service_id}")


async def call(peer: RpcPeer, to: str, method: str, *args: Any, **options: Any) -> Any:
    return await peer.call(to, method, *args, sender=HOST, workspace=to.partition("/")[0], **options)


def register(client: RPC, service_id: str = "svc", *, visibility: str = "public", **functions: Any) -> None:
    client.add_service({"id": service_id, "config": {"visibility": visibility}, **functions})


def idle(peer: RpcPeer) -> bool:
    return not any(peer.load.values())


async def settled() -> None:
    """Let what is in flight arrive."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- clients call us


async def test_call_by_client(switch: Switch, peer: RpcPeer) -> None:
    """A real client fetches a service and calls it with positional and keyword arguments."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    assert await server.echo("hi") == "hi"
    assert await server.add(1, 2) == 3
    assert await server.add(1, b=5) == 6
    assert await server.add(a=1) == 2
    assert await server.math.negate(4) == -4
    await settled()
    assert idle(peer)


async def test_values_both_ways(switch: Switch, peer: RpcPeer) -> None:
    """Every value comes back as it was sent."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    array = numpy.arange(12, dtype="float32").reshape(3, 4)
    back = await server.echo(array)
    assert back.dtype == array.dtype
    assert (back == array).all()
    for value in (None, True, 3, 2.5, "ü", b"\x00", [1, [2]], {"a": {"b": [1]}}):
        assert await server.echo(value) == value
    assert await server.echo({1, 2}) == {1, 2}
    assert bytes(await server.echo(memoryview(b"abc"))) == b"abc"
    assert await server.echo((1, 2)) == [1, 2]
    assert isinstance(await server.echo(ValueError("x")), RemoteException)


async def test_context(switch: Switch, peer: RpcPeer) -> None:
    """A method learns who calls from what the router stamped, never from the arguments."""
    server = await service_of(switch.client("ws-a", "one"), "*/manager-old", "default")
    assert await server.whoami() == {
        "user": "user-of-ws-a",
        "workspace": "ws-a",
        "from": "ws-a/one",
        "to": "*/manager-old",
    }
    with pytest.raises(RemoteException, match="unexpected keyword argument 'context'"):
        await server.whoami(context={"user": "root"})


async def test_callbacks_of_client(switch: Switch, peer: RpcPeer) -> None:
    """A function that a client passes is called while its call lasts."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    seen = []

    async def callback(value: Any, times: int) -> Any:
        seen.append(value)
        return value * times

    assert await server.apply(callback, 3, 2) == [6, 6]
    assert seen == [3, 3]
    await settled()
    assert idle(peer)


async def test_error_of_callback(switch: Switch, peer: RpcPeer) -> None:
    """What a callback raises travels through the method back to the client."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")

    async def callback() -> None:
        raise KeyError("mine")

    with pytest.raises(RemoteException, match=r"KeyError: 'mine'"):
        await server.apply(callback)


async def test_errors(switch: Switch, peer: RpcPeer) -> None:
    """The last line is what Python would print; nothing of the server's files is shown."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    expected = {
        "typed": "KeyError: 'Service not found: x'",
        "untyped": "ValueError: bad thing",
        "silent": "TimeoutError",
    }
    for kind, last_line in expected.items():
        with pytest.raises(RemoteException) as raised:
            await server.fail(kind)
        head, error_id, last = str(raised.value).strip().splitlines()
        assert (head, last) == ("RemoteError:Traceback (most recent call last):", last_line)
        assert re.fullmatch(r"  Error id: [0-9a-f]{32}", error_id)
    with pytest.raises(RemoteException, match="TypeError: Unsupported data type: object"):
        await server.unsendable()


async def test_wrong_arguments(switch: Switch, peer: RpcPeer) -> None:
    """Arguments are checked before a method runs (contract 01 §2.12)."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    with pytest.raises(RemoteException, match="TypeError: got an unexpected keyword argument 'x'"):
        await server.add(1, x=1)
    with pytest.raises(RemoteException, match="TypeError: Missing required argument: 'a'"):
        await server.add()
    with pytest.raises(RemoteException, match="TypeError: takes 2 positional arguments but 3 were given"):
        await server.add(1, 2, 3)
    with pytest.raises(RemoteException, match="TypeError: Argument 'a' must be float or int, not str"):
        await server.add("1")


async def test_unknown_method(switch: Switch, peer: RpcPeer) -> None:
    """An unknown method is refused with the text that clients know (contract 01 §10.4)."""
    client = switch.client("ws-a", "one")
    remote = client._generate_remote_method(
        {"_rtarget": MANAGER, "_rmethod": "services.default.nosuch", "_rpromise": "*"}
    )
    with pytest.raises(RemoteException):
        await remote()
    rejected = [extra["args"][0]["_rvalue"] for head, extra in switch.frames if head["method"].endswith(".reject")]
    assert rejected == ["Method expired or not found: ws-a/one:services.default.nosuch"]


async def test_generators(switch: Switch, peer: RpcPeer, sample: Sample) -> None:
    """Generators are iterated from afar and leave nothing behind, whether exhausted or abandoned."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    assert [item async for item in await server.count(3)] == [0, 1, 2]
    assert [item async for item in await server.count_async(3)] == [0, 1, 2]
    assert sample.closed.is_set()
    sample.closed.clear()
    items = await server.count_async(100)
    async for item in items:
        if item == 2:
            break
    await items.aclose()
    await asyncio.wait_for(sample.closed.wait(), 2)
    await settled()
    assert idle(peer)


async def test_returned_function(switch: Switch, peer: RpcPeer) -> None:
    """A function in an answer can be called by whom it was given to, and by nobody else."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    adder = await server.make_adder(3)
    assert await adder(4) == 7
    with pytest.raises(RemoteException, match="TypeError: missing a required argument: 'b'"):
        await adder()
    other = switch.client("ws-b", "two")._generate_remote_method(dict(adder.__rpc_object__))
    with pytest.raises(RemoteException, match="Access denied for method call"):
        await other(4)


async def test_protected_service(switch: Switch, peer: RpcPeer) -> None:
    """A protected service is for its own workspace, to fetch and to call."""
    client = switch.client("ws-a", "one")
    with pytest.raises(RemoteException, match="Permission denied for getting protected service: guarded"):
        await service_of(client, HOST, "guarded")
    remote = client._generate_remote_method({"_rtarget": HOST, "_rmethod": "services.guarded.echo", "_rpromise": "*"})
    with pytest.raises(RemoteException, match="PermissionError: Permission denied for invoking protected method"):
        await remote(1)
    server = await service_of(switch.client("public", "friend"), HOST, "guarded")
    assert await server.echo(1) == 1
    with pytest.raises(RemoteException, match="KeyError: 'Service not found: nothing'"):
        await service_of(client, HOST, "nothing")


async def test_long_messages_both_ways(switch: Switch, peer: RpcPeer) -> None:
    """Three megabytes go through the message caches of both sides."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    data = bytes(range(256)) * 12_000
    assert await server.echo(data) == data
    array = numpy.random.default_rng(1).random(400_000)
    assert (await server.echo(array) == array).all()
    assert switch.methods().count("process") == 4
    await settled()
    assert idle(peer)


async def test_long_answer_ends_its_call(switch: Switch, peer: RpcPeer) -> None:
    """Each call's session is reported as ended exactly once, whether its answer is long or short."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    switch.frames.clear()
    switch.ended.clear()
    await server.echo("x")
    await server.echo(bytes(600_000))
    await settled()
    to_peer = [(head, extra) for head, extra in switch.frames if head["to"] == MANAGER and "session" in head]
    # What came in pieces is among them with its own session, which its sender put inside.
    assert len(set(switch.ended)) == len(switch.ended)
    assert {head["session"] for head, _ in to_peer} < set(switch.ended)
    assert len(switch.ended) == len(to_peer) + 1


async def test_concurrent_calls(switch: Switch, peer: RpcPeer) -> None:
    """Twenty calls of two clients run at once."""
    servers = [await service_of(switch.client("ws-a", name), MANAGER, "default") for name in ("one", "two")]
    calls = [server.sleep(0.05) for server in servers for _ in range(10)]
    started = asyncio.get_running_loop().time()
    assert await asyncio.gather(*calls) == ["slept"] * 20
    assert asyncio.get_running_loop().time() - started < 0.5
    assert idle(peer)


async def test_heartbeats_keep_a_call_alive(switch: Switch, peer: RpcPeer) -> None:
    """A call lasts longer than the client's timeout, because heartbeats come as long as it runs."""
    server = await service_of(switch.client("ws-a", "one", method_timeout=0.4), MANAGER, "default")
    assert await server.sleep(1.0) == "slept"
    assert switch.methods().count("heartbeat") >= 4
    beats = [index for index, method in enumerate(switch.methods()) if method == "heartbeat"]
    assert switch.methods()[beats[0] - 1] == "sleep"


async def test_call_of_a_client_that_has_gone(switch: Switch, peer: RpcPeer, sample: Sample) -> None:
    """A call that runs for nobody is cancelled once two heartbeats found nobody."""
    server = await service_of(switch.client("ws-a", "one", method_timeout=0.4), MANAGER, "default")
    pending = asyncio.ensure_future(server.sleep(30))
    await settled()
    switch.disconnect("ws-a/one")
    await asyncio.wait_for(sample.cancelled.wait(), 2)
    await settled()
    assert idle(peer)
    pending.cancel()


async def test_too_many_calls_of_one_sender(switch: Switch, sample: Sample) -> None:
    """A sender has a limit of running calls; others are not touched by it."""
    peer = switch.peer([MANAGER], calls_per_sender=2)
    peer.add_service(Service.of("default", sample, visibility="public"), addresses=[MANAGER])
    greedy = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    modest = await service_of(switch.client("ws-a", "two"), MANAGER, "default")
    running = [asyncio.ensure_future(greedy.sleep(0.3)) for _ in range(2)]
    await settled()
    with pytest.raises(RemoteException, match="RuntimeError: Too many calls of ws-a/one are running"):
        await greedy.sleep(0)
    assert await modest.sleep(0) == "slept"
    await asyncio.gather(*running)
    assert await greedy.sleep(0) == "slept"


async def test_call_without_promise(switch: Switch, peer: RpcPeer) -> None:
    """Nothing is answered to a call that wants no answer."""
    stamp = Stamp(sender="ws-a/raw", workspace="ws-a", user=principal("ws-a").dump())
    head = {"type": "method", "method": "services.default.fail"}
    peer.receive(stamp.frame(head, MANAGER, pack_frame({"args": ["typed"]})))
    await settled()
    assert switch.frames == []
    assert idle(peer)


async def test_close_answers_what_runs(switch: Switch, peer: RpcPeer) -> None:
    """Nobody is left waiting by a peer that closes."""
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    pending = asyncio.ensure_future(server.sleep(30))
    await settled()
    await peer.drain(0.01)
    await peer.close()
    with pytest.raises(RemoteException, match="ConnectionError: The call was cancelled"):
        await asyncio.wait_for(pending, 2)
    with pytest.raises(Unavailable):
        await call(peer, "ws-a/one", "services.built-in.ping", "ping")


# --- we call clients


async def test_call_a_client(switch: Switch, peer: RpcPeer) -> None:
    """A method of a real client is called with values of all kinds, sync and async."""
    client = switch.client("ws-a", "one")

    async def double(array: Any, *, factor: int = 2) -> Any:
        return array * factor

    register(client, double=double, concat=lambda a, b: a + b)
    array = numpy.ones(3)
    assert (await call(peer, "ws-a/one", "services.svc.double", array, kwargs={"factor": 3}) == array * 3).all()
    assert await call(peer, "ws-a/one", "services.svc.concat", [1], [2]) == [1, 2]
    assert await call(peer, "ws-a/one", "services.built-in.ping", "ping") == "pong"
    await settled()
    assert idle(peer)


async def test_fetch_a_service(switch: Switch, peer: RpcPeer) -> None:
    """A fetched service is a map of functions; undecoded it keeps its wire form."""
    client = switch.client("ws-a", "one")
    register(client, add=lambda a, b: a + b)
    service = await call(peer, "ws-a/one", "services.built-in.get_service", "svc")
    assert await service["add"](1, 2) == 3
    raw = await call(peer, "ws-a/one", "services.built-in.get_service", "svc", decode=False)
    assert raw["add"]["_rtype"] == "method"
    assert raw["add"]["_rmethod"] == "services.svc.add"


async def test_raw_arguments(switch: Switch, peer: RpcPeer) -> None:
    """Without encoding, arguments travel as they are, ``_rtype`` maps included."""
    client = switch.client("ws-a", "one")
    seen = []
    register(client, keep=lambda value, **kwargs: seen.append((value, kwargs)))
    array = {"_rtype": "ndarray", "_rvalue": b"\x01\x02", "_rshape": [2], "_rdtype": "uint8"}
    await call(peer, "ws-a/one", "services.svc.keep", array, kwargs={"x": 1}, encode=False, decode=False)
    assert seen[0][0].tolist() == [1, 2]
    assert seen[0][1] == {"x": 1}


async def test_callbacks_of_ours(switch: Switch, peer: RpcPeer) -> None:
    """A client calls back what it was given, until the call has ended."""
    client = switch.client("ws-a", "one")
    kept = []

    async def ask(question: Any) -> Any:
        kept.append(question)
        return await question("a") + await question("b")

    register(client, ask=ask)

    async def answer(text: str) -> str:
        return text * 2

    assert await call(peer, "ws-a/one", "services.svc.ask", answer) == "aabb"
    await settled()
    assert idle(peer)
    with pytest.raises(RemoteException, match="Method expired or not found"):
        await kept[0]("c")


async def test_long_messages_of_ours(switch: Switch, peer: RpcPeer) -> None:
    """Three megabytes to a client and back, in pieces that its socket takes."""
    client = switch.client("ws-a", "one")
    register(client, echo=lambda value: value)
    data = bytes(range(256)) * 12_000
    assert await call(peer, "ws-a/one", "services.svc.echo", data) == data
    await settled()
    assert idle(peer)


async def test_long_messages_to_old_clients(switch: Switch, peer: RpcPeer) -> None:
    """A client before API version 3 gets the pieces one after the other."""
    client = switch.client("ws-a", "one")
    client._services["built-in"]["config"]["api_version"] = 2
    register(client, size=lambda value: len(value))
    assert await call(peer, "ws-a/one", "services.svc.size", bytes(1_000_000)) == 1_000_000
    assert switch.methods().count("append") == 4


async def test_generator_of_client(switch: Switch, peer: RpcPeer) -> None:
    """A generator is iterated, decoded or raw; left early, it is closed over there."""
    client = switch.client("ws-a", "one")
    closed = asyncio.Event()

    async def count(n: int) -> AsyncIterator[int]:
        try:
            for number in range(n):
                yield number
        finally:
            closed.set()

    register(client, count=count)
    items = await call(peer, "ws-a/one", "services.svc.count", 3)
    assert [item async for item in items] == [0, 1, 2]
    closed.clear()
    raw = await call(peer, "ws-a/one", "services.svc.count", 100, decode=False)
    items = peer.iterate(raw, origin="ws-a/one", sender=HOST, workspace="ws-a", decode=False)
    assert await anext(items) == 0
    await items.aclose()
    await asyncio.wait_for(closed.wait(), 2)
    await settled()
    assert idle(peer)


async def test_remote_error(switch: Switch, peer: RpcPeer) -> None:
    """The error of a client keeps its text; its last line and status are those of the exception."""
    client = switch.client("ws-a", "one")

    async def fail() -> None:
        raise KeyError("gone")

    register(client, fail=fail)
    with pytest.raises(RemoteError) as raised:
        await call(peer, "ws-a/one", "services.svc.fail")
    assert raised.value.text.startswith("Traceback")
    assert raised.value.last_line == "KeyError: 'gone'"
    assert raised.value.message == "gone"
    assert raised.value.status == 404


async def test_peer_not_found(switch: Switch, peer: RpcPeer) -> None:
    """A call to nobody fails at once and names the peer."""
    with pytest.raises(PeerNotFound, match="Target peer ws-a/nobody is not connected"):
        await call(peer, "ws-a/nobody", "services.svc.f", 1)
    with pytest.raises(PeerNotFound):
        await call(peer, "ws-a/nobody", "services.svc.f", bytes(1_000_000))
    assert idle(peer)


async def test_timeout(switch: Switch, peer: RpcPeer) -> None:
    """A callee that neither answers nor beats is given up, and nothing stays behind."""
    switch.places["ws-a/mute"] = lambda frame: None
    with pytest.raises(DeadlineExceeded, match=r"Method call timed out: ws-a/mute:services\.svc\.f"):
        await call(peer, "ws-a/mute", "services.svc.f", lambda: None, timeout=0.05)
    assert idle(peer)


async def test_heartbeats_of_client(switch: Switch, peer: RpcPeer) -> None:
    """Heartbeats of the callee move the deadline."""
    client = switch.client("ws-a", "one")

    async def slow() -> str:
        await asyncio.sleep(0.6)
        return "done"

    register(client, slow=slow)
    assert await call(peer, "ws-a/one", "services.svc.slow", timeout=0.3) == "done"


async def test_cancelled_call(switch: Switch, peer: RpcPeer) -> None:
    """A caller that gives up leaves nothing behind, and a late answer harms nobody."""
    client = switch.client("ws-a", "one")
    register(client, slow=lambda callback: asyncio.sleep(0.1, "late"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await call(peer, "ws-a/one", "services.svc.slow", lambda: None)
    assert idle(peer)
    await asyncio.sleep(0.15)
    assert idle(peer)


async def test_between_peers(switch: Switch, peer: RpcPeer) -> None:
    """Two peers need no chunks: between them the bus cuts and joins."""
    other = switch.peer(["public/hypha-apps"], prefix="i-bbbbbbbb-")
    data = bytes(2_000_000)
    answer = await other.call(
        MANAGER, "services.default.echo", data, sender="public/hypha-apps", workspace="public", user=None
    )
    assert answer == data
    assert switch.methods() == ["echo", "resolve"]


# --- what a malicious client may try


async def test_promise_must_belong_to_the_caller(switch: Switch, peer: RpcPeer) -> None:
    """An explicit promise cannot make the manager call somebody else, or a service, in its own name."""
    victim = switch.client("ws-v", "victim")
    called = []
    register(victim, secret=called.append, visibility="protected")
    stamp = Stamp(sender="ws-a/evil", workspace="ws-a", user=principal("ws-a").dump())
    for target, method in (("ws-v/victim", "services.svc.secret"), ("ws-a/evil", "services.svc.secret")):
        callback = {"_rtype": "method", "_rtarget": target, "_rmethod": method, "_rpromise": False}
        extra = {"args": [1], "promise": {"resolve": callback, "reject": callback}}
        head = {"type": "method", "method": "services.default.echo", "session": "s1"}
        peer.receive(stamp.frame(head, MANAGER, pack_frame(extra)))
    await settled()
    assert called == []
    assert {head["to"] for head, _ in switch.frames} == {"ws-a/evil"}


async def test_foreign_function_cannot_be_passed_on(switch: Switch, peer: RpcPeer) -> None:
    """A map that points at a third client is refused: the manager may call what the caller may not."""
    victim = switch.client("ws-v", "victim")
    called = []
    register(victim, secret=called.append, visibility="protected")
    server = await service_of(switch.client("ws-a", "evil"), MANAGER, "default")
    forged = {"_rtype": "method", "_rtarget": "ws-v/victim", "_rmethod": "services.svc.secret", "_rpromise": "*"}
    with pytest.raises(RemoteException, match="PermissionError: A function of ws-v/victim cannot be passed on"):
        await server.apply(forged, 1)
    assert called == []


async def test_forged_answer(switch: Switch, peer: RpcPeer) -> None:
    """Only the callee may answer a call, even if somebody else knew its session."""
    seen: list[str] = []
    switch.places["ws-a/slow"] = lambda frame: None
    pending = asyncio.ensure_future(call(peer, "ws-a/slow", "services.svc.f", timeout=0.1))
    await settled()
    session = switch.frames[0][0]["session"]
    stamp = Stamp(sender="ws-b/evil", workspace="ws-b", user=principal("ws-b").dump())
    head = {"type": "method", "method": f"{session}.resolve"}
    peer.receive(stamp.frame(head, HOST, pack_frame({"args": ["forged"]})))
    peer.receive(pack_frame({"type": "peer_not_found", "from": "ws-b/evil", "session": session}))
    with pytest.raises(DeadlineExceeded):
        seen.append(await pending)
    assert seen == []


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x93\x01\x02",
        pack_frame({"type": "method"}),
        pack_frame({"type": "method", "from": 1, "to": 2, "method": 3}),
        pack_frame({"type": "method", "from": "x", "to": "y", "method": "services.default.echo", "session": ["s"]}),
        pack_frame({"type": "peer_not_found", "session": {"a": 1}}),
        pack_frame({"type": "event", "data": None}),
        pack_frame({"type": "method", "from": "nowhere", "to": MANAGER, "method": "services", "session": "s"}),
        pack_frame({"type": "method", "from": "a/b", "to": MANAGER, "method": "services.default.echo"}) + b"\xc1",
        pack_frame({"type": "method", "from": "a/b", "to": MANAGER, "method": "services.default.echo"}) + b"\x01",
        pack_frame({"type": "method", "from": "a/b", "to": MANAGER, "method": ""}, {"args": 3}),
        pack_frame({"type": "method", "from": "a/b", "to": MANAGER, "method": "a.resolve"}, {"args": 3}),
    ],
)
async def test_bad_frames(switch: Switch, peer: RpcPeer, frame: bytes) -> None:
    """Whatever a client sends, the peer stays whole."""
    peer.receive(frame)
    await settled()
    assert idle(peer)
    server = await service_of(switch.client("ws-a", "one"), MANAGER, "default")
    assert await server.echo(1) == 1


@pytest.mark.parametrize(
    "extra",
    [
        {"args": [{"_rtype": "ndarray", "_rvalue": b"123", "_rdtype": "float64", "_rshape": [1]}]},
        {"args": [{"_rtype": "ndarray"}]},
        {"args": [{"_rtype": "ndarray", "_rvalue": b"", "_rdtype": "O", "_rshape": [0]}]},
        {"args": [{"_rtype": "method"}]},
        {"args": [{"_rtype": "method", "_rtarget": 3, "_rmethod": "x"}]},
        {"args": [{"_rtype": "set", "_rvalue": [[1]]}]},
        {"args": [{"_rtype": "orderedmap", "_rvalue": 5}]},
        {"args": {"a": 1}},
        {"args": [1], "with_kwargs": True},
        {"args": [], "with_kwargs": True},
        {"args": [1, {"a": 1}], "with_kwargs": True},
    ],
)
async def test_bad_arguments_are_answered(switch: Switch, peer: RpcPeer, extra: dict[str, Any]) -> None:
    """Values that make no sense are the caller's fault and answered as such."""
    stamp = Stamp(sender="ws-a/raw", workspace="ws-a", user=principal("ws-a").dump())
    head = {"type": "method", "method": "services.default.echo", "session": "s1"}
    peer.receive(stamp.frame(head, MANAGER, pack_frame({**extra, "promise": "*", "t": 15.0})))
    await settled()
    assert switch.methods() == ["reject"]
    text = switch.frames[0][1]["args"][0]["_rvalue"]
    assert "Error: " in text.splitlines()[-1]
    assert idle(peer)


async def test_deeply_nested_arguments(switch: Switch, peer: RpcPeer) -> None:
    """Nesting beyond what can be decoded is refused, not a crash."""
    stamp = Stamp(sender="ws-a/raw", workspace="ws-a", user=principal("ws-a").dump())
    head = {"type": "method", "method": "services.default.echo", "session": "s1"}
    peer.receive(stamp.frame(head, MANAGER, b"\x81\xa4args\x91\x81\x91\x01\x02"))  # a list as a key
    for depth in (900, 5000, 100_000):
        peer.receive(stamp.frame(head, MANAGER, b"\x81\xa4args" + b"\x91" * depth + b"\xc0"))
        peer.receive(stamp.frame(head, MANAGER, b"\x81\xa4args" + b"\x91" * depth))
    await settled()
    assert set(switch.methods()) <= {"reject"}
    assert idle(peer)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.sampled_from(["", "*", "a/b", MANAGER, "s1", "services"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=8,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("method") | VALUES,
        "from": st.sampled_from(["ws-a/x", "x"]) | VALUES,
        "to": st.sampled_from([MANAGER, HOST, "y"]) | VALUES,
        "method": st.sampled_from(METHODS) | VALUES,
        "session": st.just("s1") | VALUES,
        "ws": VALUES,
        "user": VALUES,
        "parent": VALUES,
    },
)
EXTRAS = st.fixed_dictionaries(
    {}, optional={"args": VALUES, "with_kwargs": VALUES, "promise": st.just("*") | VALUES, "t": VALUES}
)


@settings(max_examples=400, deadline=None)
@given(HEADERS, EXTRAS | st.binary(max_size=20))
def test_any_frame(header: dict[str, Any], extra: dict[str, Any] | bytes) -> None:
    """No frame whatever makes the peer raise, log an error, or keep something."""

    async def run() -> None:
        switch = Switch()
        peer = switch.peer([MANAGER, HOST])
        peer.add_service(Service.of("default", Sample(), visibility="public"), addresses=[MANAGER])
        tail = extra if isinstance(extra, bytes) else pack_frame(extra)
        peer.receive(pack_frame(header) + tail)
        await settled()
        await switch.close()
        assert idle(peer)

    with capture_logs() as logs:
        asyncio.run(run())
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []


# --- the built-in service


async def test_packed_once(switch: Switch, peer: RpcPeer) -> None:
    """The encoded service is computed once per target, and only a few targets are kept."""
    service = peer.find_service(Address.parse(MANAGER), "default")
    assert service is not None
    assert service.packed(MANAGER, SERVER) is service.packed(MANAGER, SERVER)
    for number in range(50):
        service.packed(f"*/manager-{number}", SERVER)
    assert len(service._packed) <= 8


async def test_services_at(switch: Switch, peer: RpcPeer) -> None:
    """What is to be registered at an address: the built-in service and what was added there."""
    infos = peer.services_at(HOST)
    assert [info["id"] for info in infos] == [f"{HOST}:built-in", f"{HOST}:guarded"]
    assert infos[0]["config"]["visibility"] == "public"
    assert infos[1]["service_schema"]["math"]["negate"]["function"]["name"] == "negate"


async def test_chunks_belong_to_their_sender(switch: Switch, peer: RpcPeer) -> None:
    """Another client can neither fill, take nor remove an unfinished message."""
    owner = (await service_of(switch.client("ws-a", "one"), MANAGER, "built-in")).message_cache
    other = (await service_of(switch.client("ws-a", "two"), MANAGER, "built-in")).message_cache
    await owner.create("k")
    for attempt in (other.set("k", 0, b"x"), other.process("k"), other.remove("k"), other.append("k", b"x")):
        with pytest.raises(RemoteException, match="Message with key k does not exists"):
            await attempt
    await owner.remove("k")
    with pytest.raises(RemoteException, match="session does not exist anymore"):
        await owner.create("someone's session", True)


async def test_joined_message_keeps_the_stamped_identity(switch: Switch, peer: RpcPeer) -> None:
    """What a long message claims about its sender is replaced by who sent its pieces."""
    client = switch.client("ws-a", "one")
    cache = (await service_of(client, MANAGER, "built-in")).message_cache
    forged = {"type": "method", "from": "ws-v/v", "to": MANAGER, "ws": "ws-v", "user": {"id": "root"}, "session": "s9"}
    frame = pack_frame({**forged, "method": "services.default.whoami"}, {"promise": "*", "t": 15})
    await cache.create("k")
    await cache.set("k", 0, frame)
    await cache.process("k")
    await settled()
    answers = [extra["args"][0] for head, extra in switch.frames if head["method"] == "s9.resolve"]
    assert answers[0]["from"] == "ws-a/one"
    assert answers[0]["user"] == "user-of-ws-a"


async def test_frames_for_another_replica_are_passed_on(switch: Switch, sample: Sample) -> None:
    """What belongs to a session of another replica reaches it, pieces of a long answer included."""
    passed: list[tuple[str, bytes, str, int]] = []
    first = switch.peer([MANAGER], prefix="i-aaaaaaaa-", forward=lambda *args: passed.append(args))
    second = switch.peer([], prefix="i-bbbbbbbb-")
    client = switch.client("ws-a", "one")
    register(client, big=lambda: bytes(600_000))

    def relay(frame: bytes) -> None:
        first.receive(frame, gateway="gggggggg", generation=7)
        while passed:
            instance, body, gateway, generation = passed.pop()
            assert (instance, gateway, generation) == ("bbbbbbbb", "gggggggg", 7)
            second.receive(body, gateway=gateway, generation=generation)

    switch.places[MANAGER] = relay  # the client's connection is pinned to the first replica
    answer = await second.call("ws-a/one", "services.svc.big", sender=MANAGER, workspace="ws-a")
    assert answer == bytes(600_000)
    await settled()
    assert idle(first)
    assert idle(second)


# --- leaks


async def test_nothing_is_left_after_many_calls(switch: Switch, peer: RpcPeer) -> None:
    """Calls of every outcome leave no task, session or timer behind."""
    client = switch.client("ws-a", "one")
    server = await service_of(client, MANAGER, "default")
    register(client, fail=lambda: 1 / 0, echo=lambda value: value)
    await settled()
    gc.collect()
    tasks = len(asyncio.all_tasks())
    for _ in range(50):
        await server.echo([1])
        with pytest.raises(RemoteException):
            await server.fail("typed")
        with pytest.raises(RemoteException):
            await server.add()
        [item async for item in await server.count(2)]
        await server.apply(lambda: 1)
        assert await call(peer, "ws-a/one", "services.svc.echo", settled) is settled
        with pytest.raises(RemoteError):
            await call(peer, "ws-a/one", "services.svc.fail", lambda: None)
        with pytest.raises(PeerNotFound):
            await call(peer, "ws-a/nobody", "services.svc.fail", lambda: None)
    await settled()
    assert idle(peer)
    assert len(asyncio.all_tasks()) <= tasks


async def test_typed_errors_keep_their_kind(switch: Switch, peer: RpcPeer) -> None:
    """Between two peers, an error that is raised again arrives as the same last line and status."""
    other, address = switch.peer(["public/hypha-apps"], prefix="i-bbbbbbbb-"), "public/hypha-apps"
    with pytest.raises(HyphaError) as raised:
        await other.call(MANAGER, "services.default.fail", "typed", sender=address, workspace="public")
    assert raised.value.status == 404
    assert raised.value.rpc_text() == "KeyError: 'Service not found: x'"
    assert not isinstance(raised.value, PermissionDenied)
