"""Apps opened in a browser as the browser worker opens them, without the apps service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Route

from hypha_browser_worker.templates import compile as compile_app
from hypha_browser_worker.templates import page_config
from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster

__all__ = ["AppPage", "app_page", "install"]


@dataclass(slots=True)
class AppPage:
    """An app that runs in a page, and what it wrote."""

    page: Page
    client_id: str
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def started(self) -> None:
        """Wait until the app's script ran. Raises the error of Playwright that says why it did not."""
        await self.page.evaluate("window.__HYPHA_STARTED__")


async def install(
    server: Any, manifest: Mapping[str, Any], files: Mapping[str, str], config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Compile an app and store it as an artifact; return its manifest, with ``id``."""
    alias = f"app-{new_id(8).lower()}"
    entries = [{"name": name, "content": content, "format": "text"} for name, content in files.items()]
    made, compiled = compile_app(manifest, entries, config)
    artifacts = await server.get_service("public/artifact-manager")
    await artifacts.create(type="application", alias=alias, manifest={"name": alias, **made}, stage=True)
    async with httpx.AsyncClient() as http:
        for file in compiled:
            address = await artifacts.put_file(alias, file_path=file["path"])
            stored = await http.put(address, content=file["content"].encode())
            assert stored.status_code == 200, stored.text
    await artifacts.commit(alias)
    return {**made, "id": alias}


@asynccontextmanager
async def app_page(
    browser: Browser, cluster: RunningCluster, server: Any, manifest: Mapping[str, Any], token: str
) -> AsyncIterator[AppPage]:
    """Open the page of an installed app in a context of its own, as a client of the workspace."""
    url, workspace, app_id = cluster.url, server.config.workspace, manifest["id"]
    client_id = f"app-{new_id(8).lower()}"
    hypha = {
        "server_url": url,
        "workspace": workspace,
        "client_id": client_id,
        "app_id": app_id,
        "token": token,
        "config": page_config(manifest),
    }
    files = f"{url}/{workspace}/artifacts/{app_id}/files/"
    context = await browser.new_context()
    # Chromium takes what a route answers for a page of the internet, which may not talk to servers on this machine.
    await context.grant_permissions(["local-network-access"], origin=url)
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, follow_redirects=True) as http:

        async def serve(route: Route) -> None:
            answer = await http.get(route.request.url)
            headers = {"content-type": answer.headers.get("content-type", "")}
            await route.fulfill(status=answer.status_code, headers=headers, body=answer.content)

        await context.route(f"{files}**", serve)
        page = await context.new_page()
        await page.add_init_script(f"if (window === top) window.__HYPHA__ = {json.dumps(hypha)};")
        opened = AppPage(page, client_id)
        page.on("console", lambda message: opened.console.append(_line(message)))
        page.on("pageerror", lambda error: opened.errors.append(_text(error)))
        await page.goto(files + manifest["entry_point"])
        try:
            yield opened
        finally:
            await context.close()


def _line(message: ConsoleMessage) -> str:
    return f"[{message.type}] {message.text}"


def _text(error: Error) -> str:
    return f"{error.name}: {error.message}\n{error.stack}"
