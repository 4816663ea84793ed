"""Where pages may go: to the Internet and to their hub, not into the network that the worker is in."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from aiohttp import web

from hypha_browser_worker.outbound import Outbound, is_public
from hypha_browser_worker.worker import BrowserWorker
from hypha_common.errors import BadRequest

from .hub import Hub, browser_worker, hub
from .pages import eventually

_FETCH = "fetch(%s, {mode: 'no-cors'}).then(() => 'reached', (error) => error.name)"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


async def test_the_proxy_refuses_without_connecting(served: Hub) -> None:
    """Whatever a client of it asks for."""
    outbound = Outbound()
    await outbound.start()
    requests = {
        "a private address": b"\5\1\0\1\x7f\0\0\1" + int(served.port).to_bytes(2, "big"),
        "a name of one": b"\5\1\0\3\x09localhost" + int(served.port).to_bytes(2, "big"),
        "to listen": b"\5\2\0\1\x7f\0\0\1\0\x50",
    }
    answers = {}
    for what, request in requests.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", outbound.port)
        writer.write(b"\5\1\0" + request)
        answers[what] = (await asyncio.wait_for(reader.read(), 10))[2:4]
        writer.close()
    await outbound.close()
    assert answers == {"a private address": b"\5\2", "a name of one": b"\5\2", "to listen": b"\5\7"}
    assert served.requests == []


@pytest.mark.browser
async def test_pages_do_not_reach_private_networks(served: Hub, worker: BrowserWorker) -> None:
    """Not by address, by name, by websocket, by a redirect, nor in a frame; their hub they do reach."""
    async with hub() as private:
        port = private.port
        served.pages["/away"] = web.Response(status=302, headers={"Location": f"{private.url}/redirected"})
        info = await worker.start(served.config())
        addresses = [f"{private.url}/a", f"http://localhost:{port}/b", f"http://[::1]:{port}/c", f"{served.url}/away"]
        for address in (*addresses, f"http://0x7f000001:{port}/d", f"http://127.1:{port}/e"):
            assert await worker.execute(info["session_id"], _FETCH % json.dumps(address)) == "TypeError"
        opened = f"""new Promise((resolve) => {{
          const socket = new WebSocket("ws://127.0.0.1:{port}/socket");
          socket.onopen = () => resolve("reached");
          socket.onerror = () => resolve("refused");
        }})"""
        assert await worker.execute(info["session_id"], opened) == "refused"
        assert await worker.execute(info["session_id"], _FETCH % json.dumps(f"{served.url}/hub")) == "reached"
        manifest = {"type": "web-app", "entry_point": f"{private.url}/page"}
        with pytest.raises(BadRequest, match=r"127\.0\.0\.1 is in a private network"):
            await worker.start(served.config("other", manifest=manifest))
        await worker.execute(info["session_id"], f"location.href = '{private.url}/navigated'")

        async def logged() -> bool:
            logs = await worker.get_logs(info["session_id"])
            return "ERR_SOCKS_CONNECTION_FAILED" in str(logs["items"])

        await eventually(logged)
        assert private.requests == []


@pytest.mark.browser
async def test_an_operator_may_open_it(served: Hub) -> None:
    """One host, or everything."""
    async with hub() as private:
        for allowed in (f"127.0.0.1:{private.port}", "127.0.0.1", "*"):
            async with browser_worker(served, browser_private_hosts=(allowed,)) as worker:
                info = await worker.start(served.config())
                script = _FETCH % json.dumps(f"{private.url}/{allowed}")
                assert await worker.execute(info["session_id"], script) == "reached"
        assert len(private.requests) == 3


@pytest.mark.browser
async def test_a_name_that_leads_elsewhere_later(served: Hub) -> None:
    """What is fetched for a page, with the token of its site, goes the same way as what it fetches itself."""
    async with hub() as private:
        private.pages["/page"] = web.Response(text="<title>site</title>", content_type="text/html")
        entry = f"http://localhost:{private.port}/page"
        manifest = {"type": "web-app", "entry_point": entry, "authorization_token": "of-the-site"}
        async with browser_worker(served, browser_private_hosts=("localhost",)) as worker:
            info = await worker.start(served.config(manifest=manifest))
            assert private.requests[-1].headers["Authorization"] == "Bearer of-the-site"
            seen = len(private.requests)
            assert worker._outbound is not None
            worker._outbound._allowed = frozenset()  # as if the name led into the private network from now on
            assert (
                await worker.execute(info["session_id"], "fetch('/again').then((a) => a.status, (e) => e.name)") != 200
            )
            assert len(private.requests) == seen


async def test_what_it_relays_arrives_whole(served: Hub) -> None:
    """In both directions, also after one of them has ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(data[::-1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outbound = Outbound([f"127.0.0.1:{port}"])
    await outbound.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", outbound.port)
    writer.write(b"\5\1\0" + b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + port.to_bytes(2, "big"))
    assert await reader.readexactly(12) == b"\5\0" + b"\5\0\0\1" + bytes(6)
    data = bytes(range(256)) * 4096
    writer.write(data)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 20) == data[::-1]
    writer.close()
    server.close()
    await outbound.close()
