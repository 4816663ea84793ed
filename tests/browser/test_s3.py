"""A page of another origin sends and reads files at addresses that it was given: with preflight, type and ranges."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

pytestmark = pytest.mark.browser

_USE = """
async ({put, get}) => {
  const headers = {"Content-Type": "image/x-odd"};
  const sent = await fetch(put, {method: "PUT", headers, body: new Uint8Array([1, 2, 3, 4])});
  const whole = await fetch(get);
  const part = await fetch(get, {headers: {Range: "bytes=1-2"}});
  return {
    sent: [sent.status, sent.headers.get("ETag")],
    whole: [whole.status, whole.headers.get("Content-Type"), [...new Uint8Array(await whole.arrayBuffer())]],
    part: [part.status, part.headers.get("Content-Range"), [...new Uint8Array(await part.arrayBuffer())]],
    refused: (await fetch(put.replace("X-Amz-Signature=", "X-Amz-Signature=0"), {method: "PUT", body: "x"})).status,
  };
}
"""


async def test_a_page_of_another_origin(cluster: RunningCluster, connect: Connect, client_page: Page) -> None:
    client = await connect(token=cluster.user_token())
    storage = await client.get_service("public/s3-storage")
    addresses = {
        "put": await storage.put_file("from page/ü.bin", use_proxy=True),
        "get": await storage.get_file("from page/ü.bin", use_proxy=True),
    }
    found = await client_page.evaluate(_USE, addresses)
    assert found["sent"] == [200, '"08d6c05a21512a79a1dfeb9d2a8f262f"']
    assert found["whole"] == [200, "image/x-odd", [1, 2, 3, 4]]
    assert found["part"] == [206, "bytes 1-2/4", [2, 3]]
    assert found["refused"] == 403
