"""Apps in browsers, made directly: a page and its files in an artifact."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from tests.fixtures.app_worker import create_app

__all__ = ["CONNECT", "contents", "eventually", "page_app"]

# What a page does to become an instance of its app.
CONNECT = """
const {server_url, workspace, client_id, token} = window.__HYPHA__;
const {connectToServer} = await import(`${server_url}/assets/hypha-rpc-websocket.mjs`)
  .then((module) => module.default ?? module.hyphaWebsocketClient ?? module);
const api = await connectToServer({server_url, workspace, client_id, token});
"""


async def page_app(
    server: Any,
    alias: str,
    script: str = "",
    *,
    body: str = "",
    files: dict[str, str] | None = None,
    type: str = "window",  # noqa: A002
    connect: bool = True,
    **manifest: Any,
) -> str:
    """
    Make an app whose page runs ``script`` as a module, with ``api`` connected; returns its alias.

    Without a ``script`` it registers ``default`` with ``echo`` and ``look``, which evaluates an expression in the page.

    """
    await create_app(server, alias, type=type, entry_point="index.html", **manifest)
    script = script or (
        "await api.registerService({id: 'default', config: {visibility: 'protected'},"
        " echo: (value) => value, look: (text) => (0, eval)(text)});"
    )
    source = f"{CONNECT if connect else ''}{script}"
    page = f"<!doctype html><title>{alias}</title>{body}<script type=module>{source}</script>"
    artifacts = await server.get_service("public/artifact-manager")
    await artifacts.edit(alias, stage=True)
    async with httpx.AsyncClient() as http:
        for name, content in {"index.html": page, **(files or {})}.items():
            answer = await http.put(await artifacts.put_file(alias, file_path=name), content=content.encode())
            assert answer.status_code == 200, answer.text
    await artifacts.commit(alias)
    return alias


async def eventually(condition: Callable[[], Awaitable[Any]], timeout_s: float = 20.0) -> Any:
    """Wait until something is true, and return it."""
    async with asyncio.timeout(timeout_s):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
    return found


async def contents(apps: Any, session: Any, *texts: str) -> list[str]:
    """Wait until an app has logged all of these, and return everything that it has logged."""

    async def logged() -> list[str]:
        entries = (await apps.get_logs(session["id"]))["items"]
        found = [f"{entry['type']}: {entry['content']}" for entry in entries]
        return found if all(any(text in one for one in found) for text in texts) else []

    found: list[str] = await eventually(logged)
    return found
