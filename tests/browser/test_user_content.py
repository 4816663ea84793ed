"""Pages that users put on the hub, opened by somebody who is logged in there."""

from __future__ import annotations

import httpx
import pytest
from hypha_rpc import connect_to_server
from playwright.async_api import Browser

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster

pytestmark = pytest.mark.browser

_SCRIPT = """
const report = {origin: self.origin};
try { report.cookie = document.cookie } catch (error) { report.cookie = error.name }
try { report.storage = String(localStorage.length) } catch (error) { report.storage = error.name }
try { await navigator.serviceWorker.register("worker.js"); report.worker = "registered" }
catch (error) { report.worker = error.name }
report.secret = (await fetch("secret.txt", {credentials: "include"})).status;
report.user = (await (await fetch("/assets/config.json", {credentials: "include"})).json()).user.id;
document.querySelector("title").textContent = JSON.stringify(report);
"""
_PAGES = {
    "page.html": "<!doctype html><title>-</title>",
    "drawing.svg": '<svg xmlns="http://www.w3.org/2000/svg"><title>-</title>',
}


@pytest.mark.parametrize("name", _PAGES)
async def test_pages_act_for_nobody(cluster: RunningCluster, browser: Browser, name: str) -> None:
    """The script of a page runs, but not with the cookies of whoever looks at it, nor with anything else of theirs."""
    user = f"user-{new_id(8).lower()}"
    token, files = cluster.user_token(user), f"{cluster.url}/ws-user-{user}/files"
    content = f"{_PAGES[name]}<script>(async function () {{{_SCRIPT}}})();</script>"
    content += "</svg>" if name.endswith("svg") else ""
    async with (
        connect_to_server({"server_url": cluster.url, "token": token}),  # now there is a workspace
        httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
    ):
        for path, body in ((name, content), ("secret.txt", "secret"), ("worker.js", "")):
            put = await http.put(f"{files}/{path}", content=body.encode())
            assert put.status_code == 200, put.text
    context = await browser.new_context()
    await context.add_cookies([{"name": "access_token", "value": token, "url": cluster.url, "sameSite": "Lax"}])
    page = await context.new_page()
    shown = await page.goto(f"{files}/{name}")
    assert shown is not None
    assert shown.status == 200  # by the cookie: nobody else may see it
    await page.wait_for_function("document.querySelector('title').textContent.startsWith('{')")
    report = await page.evaluate("JSON.parse(document.querySelector('title').textContent)")
    await context.close()
    assert (report["origin"], report["cookie"], report["storage"]) == ("null", "SecurityError", "SecurityError")
    assert report["worker"] != "registered"
    assert (report["secret"], report["user"]) == (403, "anonymouz-http")
