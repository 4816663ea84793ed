from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from tests.fixtures.clients import Connect

MB = 2**20


@pytest.fixture(params=["one gateway", "two gateways"])
async def remote(request: pytest.FixtureRequest, connect: Connect) -> Any:
    """A service as another client in another workspace sees it, through the same gateway or through another one."""
    cluster = request.getfixturevalue("cluster" if request.param == "one gateway" else "two_gateways")
    kept: list[Any] = []

    def count(n: int) -> Iterator[int]:
        yield from range(n)

    async def count_slowly(n: int) -> AsyncIterator[int]:
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def call(function: Any, *args: Any) -> Any:
        return await function(*args)

    async def exchange(function: Any) -> Any:
        return await function(lambda x: x + 10)

    def keep(callbacks: Any) -> None:
        kept.append(callbacks)

    async def call_kept(*args: Any) -> Any:
        return await kept[-1]["call"](*args)

    async def add_up(numbers: Any) -> int:
        return sum([number async for number in numbers])

    def fail(message: str) -> None:
        raise ValueError(message)

    def signature(a: int, b: int = 2, *, c: int = 3) -> list[int]:
        return [a, b, c]

    class Counter:
        """An object with methods and state, registered inside a service."""

        def __init__(self) -> None:
            self.value = 0

        def add(self, n: int) -> int:
            self.value += n
            return self.value

    counter = Counter()
    provider = await connect(server_url=cluster.gateway_urls[0])
    registered = await provider.register_service(
        {
            "id": "values",
            "config": {"visibility": "public"},
            "echo": lambda value: value,
            "nested": {"deep": {"increment": lambda x: x + 1}, "constant": 7},
            "count": count,
            "count_slowly": count_slowly,
            "call": call,
            "exchange": exchange,
            "keep": keep,
            "call_kept": call_kept,
            "add_up": add_up,
            "fail": fail,
            "signature": signature,
            "size": len,
            "zeros": lambda n: bytes(n),
            "make": lambda: {"_rintf": True, "add": counter.add},
        }
    )
    caller = await connect(server_url=cluster.gateway_urls[-1])
    return await caller.get_service(registered.id)


@pytest.mark.parametrize(
    "value",
    [
        None, True, -1, 2**63, 1.5, "grüß", b"\x00\xff", [], [1, [2]], {"a": {"b": [None]}}, {"_private": 1},
        {1, 2}, OrderedDict(a=1), "x" * 70000,
    ],
)  # fmt: skip
async def test_plain_values(remote: Any, value: Any) -> None:
    assert await remote.echo(value) == value


async def test_tuple_becomes_a_list(remote: Any) -> None:
    assert await remote.echo((1, (2, 3))) == [1, [2, 3]]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="float32").reshape(2, 3),
        np.zeros((0, 4), "int8"),
        np.array(5, "uint16"),
        np.array([True, False]),
        np.arange(24, dtype="complex128").reshape(2, 3, 4)[:, ::2],
        np.asfortranarray(np.arange(6).reshape(2, 3)),
    ],
    ids=str,
)
async def test_arrays(remote: Any, array: np.ndarray[Any, Any]) -> None:
    back = await remote.echo(array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


async def test_arrays_inside_of_others(remote: Any) -> None:
    back = await remote.echo({"images": [np.ones((2, 2)), {"mask": np.zeros(3, "bool")}]})
    assert back["images"][0].sum() == 4
    assert back["images"][1]["mask"].dtype == np.dtype("bool")


async def test_nested_functions_and_values(remote: Any) -> None:
    assert await remote.nested.deep.increment(1) == 2
    assert remote.nested.constant == 7


async def test_arguments(remote: Any) -> None:
    assert await remote.signature(1) == [1, 2, 3]
    assert await remote.signature(1, 5, c=6) == [1, 5, 6]
    assert await remote.signature(c=9, a=8) == [8, 2, 9]
    with pytest.raises(Exception, match="TypeError"):
        await remote.signature()


async def test_callbacks(remote: Any) -> None:
    """Plain and asynchronous ones, with an array, and one that fails."""
    seen: list[Any] = []

    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    def fails() -> None:
        raise RuntimeError("in the callback")

    assert await remote.call(lambda x: seen.append(x), np.arange(3)) is None
    assert seen[0].tolist() == [0, 1, 2]
    assert await remote.call(later, 21) == 42
    with pytest.raises(Exception, match="RuntimeError: in the callback"):
        await remote.call(fails)


async def test_callback_that_gets_a_callback(remote: Any) -> None:
    async def use(add: Any) -> Any:
        return await add(1) * 100

    assert await remote.exchange(use) == 1100


async def test_callback_kept_beyond_the_call(remote: Any) -> None:
    await remote.keep({"_rintf": True, "call": lambda x: x + 100})
    assert await remote.call_kept(1) == 101
    assert await remote.call_kept(2) == 102


async def test_object_of_the_service(remote: Any) -> None:
    counter = await remote.make()
    assert [await counter.add(2), await counter.add(3)] == [2, 5]


async def test_generators(remote: Any) -> None:
    """From the service, and to it; empty ones and ones left early too."""
    for name in ("count", "count_slowly"):
        assert [i async for i in await remote[name](3)] == [0, 1, 2]
        assert [i async for i in await remote[name](0)] == []
        async for i in await remote[name](1000):
            if i == 2:
                break
    assert await remote.add_up(i for i in range(5)) == 10


async def test_failure(remote: Any) -> None:
    """The caller reads what was raised where."""
    with pytest.raises(Exception) as caught:
        await remote.fail("bad thing")
    text = str(caught.value)
    assert "ValueError: bad thing" in text
    assert "in fail" in text


@pytest.mark.parametrize("size", [200_000, 263_000, 3 * MB, 12 * MB])
async def test_large_payloads(remote: Any, size: int) -> None:
    """There, back, and both; around the size where clients begin to send in chunks."""
    data = np.random.default_rng(size).bytes(size)
    assert await remote.size(data) == size
    assert await remote.zeros(size) == bytes(size)
    assert await remote.echo(data) == data
    array = np.frombuffer(data, "uint8")
    np.testing.assert_array_equal(await remote.echo(array), array)


async def test_large_payload_to_a_callback(remote: Any) -> None:
    sizes: list[int] = []
    await remote.call(lambda data: sizes.append(len(data)), bytes(3 * MB))
    assert sizes == [3 * MB]


async def test_large_items_of_a_generator(connect: Connect) -> None:
    def pieces() -> Iterator[bytes]:
        for i in range(3):
            yield bytes([i]) * MB

    provider = await connect()
    registered = await provider.register_service({"id": "pieces", "config": {"visibility": "public"}, "get": pieces})
    service = await (await connect()).get_service(registered.id)
    assert [(piece[0], len(piece)) async for piece in await service.get()] == [(0, MB), (1, MB), (2, MB)]


async def test_calls_at_the_same_time(remote: Any) -> None:
    """Answers find their calls, however many are under way."""
    answers = await asyncio.gather(*(remote.echo(i) for i in range(300)))
    assert answers == list(range(300))


async def test_manager_echoes_values(connect: Connect) -> None:
    """The server's own RPC speaks the same language."""
    server = await connect()
    for value in (None, 1.5, b"x", [1, {"a": "b"}], {1, 2}):
        assert await server.echo(value) == value
    np.testing.assert_array_equal(await server.echo(np.arange(6).reshape(2, 3)), np.arange(6).reshape(2, 3))
    data = bytes(3 * MB)
    assert await server.echo(data) == data
    echoed = await server.echo({"_rintf": True, "increment": lambda x: x + 1})
    assert await echoed["increment"](1) == 2
