from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect
from tests.fixtures.scripts import JS_DIRECTORY, StartScript

pytestmark = pytest.mark.node


async def _run(start_script: StartScript, name: str, *, expect: str, **config: Any) -> Any:
    """Run a file of tests/js with ``config`` and wait for the line that begins with ``expect``; returns the script."""
    code = f"globalThis.config = {json.dumps(config)};\n" + (JS_DIRECTORY / name).read_text()
    script = await start_script(code, language="js")
    await script.line(f"^{expect}")
    return script


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_caller(cluster: RunningCluster, connect: Connect, start_script: StartScript, transport: str) -> None:
    """Node calls Python and the manager; the file asserts what it gets."""
    received: list[Any] = []

    async def call(function: Any, *args: Any) -> Any:
        return await function(*args)

    def fail() -> None:
        raise ValueError("bad thing")

    def count(n: int) -> Any:
        yield from range(n)

    def keep(value: Any) -> None:
        received.append(value)

    provider = await connect()
    registered = await provider.register_service(
        {
            "id": "s",
            "config": {"visibility": "public"},
            "echo": lambda value: value,
            "signature": lambda a, b=2, c=3: [a, b, c],
            "call": call,
            "fail": fail,
            "count": count,
            "keep": keep,
            "array": lambda: np.arange(6, dtype="float32").reshape(2, 3),
            "total": lambda array: float(np.asarray(array).sum()),
            "nested": {"deep": {"increment": lambda x: x + 1}},
        }
    )
    script = await _run(
        start_script,
        "caller.mjs",
        expect="done",
        url=cluster.url,
        token=cluster.user_token(),
        service=registered.id,
        transport=transport,
    )
    assert "failed" not in script.output
    assert received[0]["typed"].tolist() == [1, 2]
    assert received[0]["bytes"] == b"\x01\x02"
    assert received[0]["set"] == {1}
    assert received[0]["map"] == {"k": 1}


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_provider(cluster: RunningCluster, connect: Connect, start_script: StartScript, transport: str) -> None:
    """Python calls what Node has registered."""
    token = cluster.user_token()
    await _run(start_script, "provider.mjs", expect="registered", url=cluster.url, token=token, transport=transport)
    caller = await connect(token=token)
    service = await caller.get_service("js-provider:s")
    for value in (None, True, -1, 1.5, "grüß", b"\x00\xff", [1, [2]], {"a": {"b": None}}, {1, 2}):
        assert await service.echo(value) == value
    assert await service.nested.deep.increment(1) == 2
    array = np.arange(6, dtype="float32").reshape(2, 3)
    back = await service.echo(array)
    np.testing.assert_array_equal(back, array)
    assert (await service.typed()).tolist() == [1.5, 2.5]
    assert await service.call(lambda x: x * 2, 21) == 42
    assert [i async for i in await service.count(3)] == [0, 1, 2]
    assert await service.options({"a": 1, "b": 2}) == {"a": 1, "b": 2}
    data = bytes(3 * 2**20)
    assert await service.echo(data) == data
    context = await service.who()
    assert (context["user"], context["from"]) == (
        caller.config.user["id"],
        f"{caller.config.workspace}/{caller.config.client_id}",
    )
    with pytest.raises(Exception, match="bad thing"):
        await service.fail()
    await service.keep({"_rintf": True, "call": lambda x: x + 100})
    assert await service.call_kept(1) == 101


def test_files_are_there() -> None:
    assert {path.name for path in Path(JS_DIRECTORY).glob("*.mjs")} >= {"caller.mjs", "provider.mjs"}
