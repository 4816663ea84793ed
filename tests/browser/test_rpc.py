from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Page

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

pytestmark = pytest.mark.browser

_PROVIDER = """
async ({url, token}) => {
  const server = await hyphaWebsocketClient.connectToServer({server_url: url, token, client_id: "page"});
  window.server = server;
  await server.registerService({
    id: "imaging",
    config: {visibility: "public", require_context: ["who"]},
    // Doubles an image and reports progress, as an image viewer would.
    process: async (image, progress) => {
      const pixels = new Float32Array(image._rvalue.slice().buffer);
      await progress(0.5, {stage: "half"});
      const doubled = pixels.map((x) => 2 * x);
      const last = await progress(1.0, {stage: "done"});
      return {image: {...image, _rvalue: new Uint8Array(doubled.buffer)}, last};
    },
    count: function* (n) { for (let i = 0; i < n; i++) yield i; },
    count_slowly: async function* (n) { for (let i = 0; i < n; i++) { await null; yield i * i; } },
    total: async (numbers) => { let sum = 0; for await (const x of numbers) sum += x; return sum; },
    title: () => document.title,
    echo: (x) => x,
    who: (context) => context.user.id,
    fail: () => { throw new Error("no canvas"); },
  });
  return server.config.workspace;
}
"""


async def test_python_calls_a_page(cluster: RunningCluster, connect: Connect, client_page: Page) -> None:
    """With a callback and an array; with generators; failures too."""
    workspace = await client_page.evaluate(_PROVIDER, {"url": cluster.url, "token": cluster.user_token()})
    caller = await connect()
    service = await caller.get_service(f"{workspace}/page:imaging")
    reports: list[Any] = []

    def progress(share: float, details: dict[str, str]) -> str:
        reports.append((share, details["stage"]))
        return f"heard {share}"

    image = np.arange(6, dtype="float32").reshape(2, 3)
    result = await service.process(image, progress)

    np.testing.assert_array_equal(result["image"], image * 2)
    assert result["image"].dtype == np.dtype("float32")
    assert reports == [(0.5, "half"), (1.0, "done")]
    assert result["last"] in ("heard 1", "heard 1.0")
    assert [i async for i in await service.count(4)] == [0, 1, 2, 3]
    assert [i async for i in await service.count_slowly(4)] == [0, 1, 4, 9]
    assert await service.total(i for i in range(5)) == 10
    assert await service.title() == "Client"
    assert await service.who() == caller.config.user["id"]
    with pytest.raises(Exception, match="no canvas"):
        await service.fail()
    data = bytes(3 * 2**20)
    assert await service.echo(data) == data


async def test_page_calls_python(cluster: RunningCluster, connect: Connect, client_page: Page) -> None:
    provider = await connect()
    received: list[Any] = []

    async def process(image: Any, progress: Any) -> Any:
        received.append(image)
        for share in (0.5, 1.0):
            await progress(share)
        return image * 2

    def count(n: int) -> Iterator[int]:
        yield from range(n)

    async def total(numbers: Any) -> int:
        return sum([number async for number in numbers])

    def fail() -> None:
        raise ValueError("bad thing")

    registered = await provider.register_service(
        {
            "id": "imaging",
            "config": {"visibility": "public"},
            "process": process,
            "count": count,
            "total": total,
            "fail": fail,
            "echo": lambda x: x,
        }
    )
    seen = await client_page.evaluate(
        """
        async ({url, id}) => {
          const server = await hyphaWebsocketClient.connectToServer({server_url: url});
          const service = await server.getService(id);
          const seen = {reports: [], counted: []};
          const image = {
            _rtype: "ndarray", _rdtype: "float32", _rshape: [2, 3],
            _rvalue: new Uint8Array(new Float32Array([0, 1, 2, 3, 4, 5]).buffer),
          };
          const back = await service.process(image, (share) => { seen.reports.push(share); });
          seen.shape = back._rshape;
          seen.pixels = Array.from(new Float32Array(back._rvalue.slice().buffer));
          for await (const i of await service.count(3)) seen.counted.push(i);
          seen.total = await service.total((function* () { yield 1; yield 2; yield 3; })());
          seen.failure = await service.fail().catch((error) => error.message);
          seen.large = (await service.echo(new Uint8Array(3 * 2 ** 20))).length;
          await server.disconnect();
          return seen;
        }
        """,
        {"url": cluster.url, "id": registered.id},
    )
    assert received[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert "ValueError: bad thing" in seen.pop("failure")
    assert seen == {
        "reports": [0.5, 1],
        "counted": [0, 1, 2],
        "shape": [2, 3],
        "pixels": [0, 2, 4, 6, 8, 10],
        "total": 6,
        "large": 3 * 2**20,
    }


async def test_page_calls_by_http(cluster: RunningCluster, connect: Connect, client_page: Page) -> None:
    """``fetch`` from a page of another origin, with a token in a header: the browser asks first, and is let through."""
    token = cluster.user_token("ida")
    provider = await connect(token=token)
    config = {"require_context": True}

    def count(n: int, context: Any = None) -> Iterator[int]:
        yield from range(n)

    await provider.register_service(
        {"id": "s", "config": config, "who": lambda x, context=None: [x, context["user"]["id"]], "count": count}
    )
    answers = await client_page.evaluate(
        """
        async ({url, token}) => {
          const headers = {Authorization: `Bearer ${token}`, "Content-Type": "application/json"};
          const posted = await fetch(`${url}/ws-user-ida/services/s/who`, {method: "POST", headers, body: '{"x": 1}'});
          const got = await fetch(`${url}/ws-user-ida/services/s/who?x=2`, {headers});
          const refused = await fetch(`${url}/ws-user-ida/services/s/who?x=3`);
          const stream = await fetch(`${url}/ws-user-ida/services/s/count?n=3`, {headers});
          return [await posted.json(), await got.json(), refused.status, await stream.text()];
        }
        """,
        {"url": cluster.url, "token": token},
    )
    assert answers[:3] == [[1, "ida"], [2, "ida"], 403]
    assert answers[3].split("\n\n") == ["data: 0", "data: 1", "data: 2", "data: [DONE]", ""]


async def test_page_is_gone_when_it_is_closed(cluster: RunningCluster, connect: Connect, client_page: Page) -> None:
    token = cluster.user_token()
    workspace = await client_page.evaluate(_PROVIDER, {"url": cluster.url, "token": token})
    watcher = await connect(token=token)
    left: asyncio.Queue[Any] = asyncio.Queue()
    watcher.on("client_disconnected", left.put_nowait)
    service = await watcher.get_service(f"{workspace}/page:imaging")
    assert await service.title() == "Client"
    await client_page.close()
    assert (await asyncio.wait_for(left.get(), 5))["data"]["id"] == "page"
    with pytest.raises(Exception, match="Service not found"):
        await watcher.get_service("imaging")
