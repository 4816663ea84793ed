from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from playwright.async_api import Browser, Page, expect

from tests.cluster.running_cluster import RunningCluster

pytestmark = pytest.mark.browser

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 320, "height": 640}}
LOOKS = [(size, scheme) for size in SIZES for scheme in ("light", "dark")]
MIN_CONTRAST = 4.5  # WCAG AA

CONTRASTS = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return canvas;
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const pair = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found;
}
"""


@pytest.fixture(params=LOOKS, ids="-".join)
async def page(request: pytest.FixtureRequest, browser: Browser) -> AsyncIterator[Page]:
    """A page of each size and colour scheme; nothing it does may be refused by its own policy."""
    size, scheme = request.param
    context = await browser.new_context(viewport=SIZES[size], color_scheme=scheme)
    page = await context.new_page()
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(str(message.location["url"])) if message.type == "error" else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    # A form that was refused says so by its status, and a browser looks for an icon of what is no page.
    expected = ("/hypha-login/", "/favicon.ico")
    assert [url for url in complaints if not url.partition("?")[0].endswith(expected)] == []


async def _looks_right(page: Page, name: str, record: Any) -> None:
    """Nothing is cut off or hard to read; the picture is kept for whoever wants to look."""
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    poor = [(ratio, text) for ratio, text in await page.evaluate(CONTRASTS) if ratio < MIN_CONTRAST]
    assert poor == []
    await page.screenshot(path=record / f"{name}.png", full_page=True)


async def test_front_page(cluster: RunningCluster, page: Page, tmp_path: Any) -> None:
    await page.goto(cluster.url)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Hypha")
    await expect(page.get_by_text(re.compile(r"^Server \d+\.\d+"))).to_be_visible()
    await expect(page.get_by_text(cluster.url).first).to_be_visible()
    await _looks_right(page, "front", tmp_path)
    for link in await page.get_by_role("link").all():
        address = await link.evaluate("(link) => link.href")
        assert (await page.request.get(address)).status == 200, address


async def test_workspace_page(cluster: RunningCluster, page: Page, tmp_path: Any) -> None:
    """Services and clients for a member, public services for anybody, the login for others."""
    token = cluster.user_token("grace")
    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        await server.register_service(
            {"id": "open", "name": "Open <b>thing</b>", "config": {"visibility": "public"}, "run": lambda: 1}
        )
        await server.register_service({"id": "shut", "name": "Shut thing", "run": lambda: 1})
        url = f"{cluster.url}/{server.config.workspace}/"
        await page.goto(url)
        await expect(page.get_by_role("link", name="Open <b>thing</b>")).to_be_visible()
        await expect(page.get_by_text("Shut thing")).to_have_count(0)
        await _looks_right(page, "workspace-public", tmp_path)
        await page.context.add_cookies([{"name": "access_token", "value": token, "url": cluster.url}])
        await page.goto(url)
        await expect(page.get_by_role("link", name="Shut thing")).to_be_visible()
        await expect(page.get_by_role("heading", name="Clients")).to_be_visible()
        await expect(page.get_by_text("You are grace")).to_be_visible()
        await _looks_right(page, "workspace", tmp_path)
        for link in await page.get_by_role("link").all():
            address = await link.evaluate("(link) => link.href")
            assert (await page.request.get(address)).status == 200, address


async def test_client_library_of_the_hub(cluster: RunningCluster, browser: Browser, page_url: str) -> None:
    """What the front page tells web pages to do, in a page of another origin."""
    page = await browser.new_page()
    await page.goto(page_url)
    async with connect_to_server({"server_url": cluster.url}) as server:
        service = await server.register_service(
            {"id": "hello", "config": {"visibility": "public"}, "hello": lambda name: "Hello " + name}
        )
        said = await page.evaluate(
            """async ([url, id]) => {
              const { connectToServer } = await import(url + "/assets/hypha-rpc-websocket.mjs");
              const server = await connectToServer({ server_url: url });
              const service = await server.getService(id);
              const said = await service.hello("world");
              await server.disconnect();
              return said;
            }""",
            [cluster.url, service.id],
        )
    assert said == "Hello world"
    await page.close()


async def test_api_pages(cluster: RunningCluster, browser: Browser) -> None:
    """Both viewers work with nothing from elsewhere, and the document's link opens the operation it names."""
    page = await browser.new_page(viewport={"width": 1280, "height": 800})
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{cluster.url}/api-docs#/default/service_function__workspace__services__service___keys__post")
    await expect(page.get_by_role("button", name="Try it out")).to_be_in_viewport(timeout=20_000)
    await expect(page.get_by_text("The result comes in the format of the body.")).to_be_visible()
    await page.goto(f"{cluster.url}/api-redoc")
    await expect(page.get_by_role("heading", name="Call a function of a service").first).to_be_visible(timeout=20_000)
    assert errors == []
    # ReDoc asks for its maker's logo; the policy of the page refuses, and it does without.
    assert {url for url in asked if not url.startswith((cluster.url, "blob:", "data:"))} <= {
        "https://cdn.redoc.ly/redoc/logo-mini.svg"
    }
    await page.close()


async def test_login_page(cluster: RunningCluster, page: Page, tmp_path: Any) -> None:
    """Usable with the keyboard alone; a wrong token is explained and may be corrected."""
    async with connect_to_server({"server_url": cluster.url}) as server:
        login = await server.get_service("public/hypha-login")
        started = await login.start()
        await page.goto(started["login_url"])
        await expect(page.get_by_label("Email")).to_be_focused()
        await _looks_right(page, "login", tmp_path)
        # The links lead elsewhere, the token is the last thing on the page.
        while not await page.locator("summary").evaluate("(summary) => summary === document.activeElement"):
            await page.keyboard.press("Tab")
        for key in ("Enter", "Tab"):
            await page.keyboard.press(key)
        await expect(page.get_by_label("Your token")).to_be_focused()
        await page.keyboard.type("nonsense")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await expect(page.get_by_label("Your token")).to_be_focused()
        await _looks_right(page, "login-refused", tmp_path)

        token = cluster.user_token("lin")
        await page.get_by_label("Your token").fill(token)
        await page.get_by_role("button", name="Log in with the token").click()
        await expect(page.get_by_role("heading", name="You are logged in")).to_be_visible()
        await _looks_right(page, "login-done", tmp_path)
        assert await login.check(started["key"], timeout=0) == token

    cookies = {cookie["name"]: cookie for cookie in await page.context.cookies()}
    assert cookies["access_token"]["value"] == token
    await page.goto(f"{cluster.url}/ws-user-lin/info")
    assert '"id":"ws-user-lin"' in (await page.content()).replace(" ", "")
    await page.goto(await _logout_url(cluster))
    assert "access_token" not in {cookie["name"] for cookie in await page.context.cookies()}


async def test_login_page_without_a_login(cluster: RunningCluster, page: Page, tmp_path: Any) -> None:
    await page.goto(f"{cluster.url}/login")
    assert page.url == f"{cluster.url}/public/apps/hypha-login/"
    await expect(page.get_by_label("Email")).to_be_focused()
    await _looks_right(page, "login-empty", tmp_path)


async def _logout_url(cluster: RunningCluster) -> str:
    async with connect_to_server({"server_url": cluster.url}) as server:
        return str((await (await server.get_service("public/hypha-login")).logout())["logout_url"])
