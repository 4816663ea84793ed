"""A person logs in at an OpenID Connect provider, in Chromium, for a program that has asked for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.fixtures.oidc import OidcHub
from tests.fixtures.scripts import StartScript

pytestmark = [pytest.mark.browser, pytest.mark.node]

_PROGRAM = """
from hypha_rpc import connect_to_server, login

SERVER_URL = "{url}"
token = await login({{"server_url": SERVER_URL}})
async with connect_to_server({{"server_url": SERVER_URL, "token": token}}) as server:
    print("user:", server.config.user["id"], server.config.user["email"], server.config.workspace)
"""


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page of a browser that keeps to this machine, and whose pages do nothing that their policy forbids."""
    context = await browser.new_context()
    page = await context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    await context.route(
        lambda url: not url.startswith(("http://127.0.0.1:", "http://localhost:")), _abort
    )  # the provider's pages ask for a font
    yield page
    await context.close()
    assert refused == []


async def _abort(route: Route) -> None:
    await route.abort()


async def _log_in_there(page: Page, name: str) -> None:
    """Fill in the provider's form, and agree to what the hub is told."""
    await page.get_by_placeholder("Enter any login").fill(name)
    await page.get_by_placeholder("and password").fill("any")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()


async def test_login(oidc_hub: OidcHub, page: Page, start_script: StartScript) -> None:
    """From the address that ``login()`` prints to the token in the program, with one click at the hub."""
    script = await start_script(_PROGRAM.format(url=oidc_hub.cluster.url))
    address = (await script.line(r"(http://\S+/apps/hypha-login/\?\S+)"))[1]
    await page.goto(address)
    await page.get_by_role("link", name="Continue with Example ID").click()
    await _log_in_there(page, "ada")
    await expect(page.get_by_text("You can close this window")).to_be_visible()
    assert "user: ada ada@example.org ws-user-ada\n" in await script.end()
    # Nothing of the way is left but who the browser is.
    cookies = {cookie["name"] for cookie in await page.context.cookies(oidc_hub.cluster.url)}
    assert "access_token" in cookies
    assert not any("oidc" in name for name in cookies)


async def test_refused_and_tried_again(oidc_hub: OidcHub, page: Page, start_script: StartScript) -> None:
    """Who cancels at the provider is told so in a sentence; the program's login is still there."""
    script = await start_script(_PROGRAM.format(url=oidc_hub.cluster.url))
    await page.goto((await script.line(r"(http://\S+/apps/hypha-login/\?\S+)"))[1])
    await page.get_by_role("link", name="Continue with Example ID").click()
    await page.get_by_role("link", name="Cancel").click()
    await expect(page.get_by_role("alert")).to_contain_text("was not allowed to tell who you are")
    await page.get_by_role("link", name="Try again").click()
    await page.get_by_role("link", name="Continue with Example ID").click()
    await _log_in_there(page, "unverified-grace")
    await expect(page.get_by_text("You can close this window")).to_be_visible()
    assert "user: unverified-grace None ws-user-unverified-grace\n" in await script.end()


async def test_inside_another_page(oidc_hub: OidcHub, page: Page, page_url: str, start_script: StartScript) -> None:
    """Providers refuse to be shown inside a page, and clicks there may be stolen: a window of its own opens."""
    script = await start_script(_PROGRAM.format(url=oidc_hub.cluster.url))
    address = (await script.line(r"(http://\S+/apps/hypha-login/\?\S+)"))[1]
    await page.goto(page_url.replace("127.0.0.1", "localhost"))
    await page.evaluate(f"() => {{ document.body.innerHTML = '<iframe src=\"{address}\" width=600 height=600>' }}")
    async with page.expect_popup() as opened:
        await page.frame_locator("iframe").get_by_role("link", name="Continue with Example ID").click()
    window = await opened.value
    await expect(window).to_have_url(address)
    await window.get_by_role("link", name="Continue with Example ID").click()
    await _log_in_there(window, "joan")
    assert "user: joan joan@example.org ws-user-joan\n" in await script.end()


async def test_no_login_without_a_click(oidc_hub: OidcHub, page: Page) -> None:
    """An address that somebody sends leads to the page that says what it is about, also for who is logged in there."""
    start = f"{oidc_hub.cluster.url}/public/apps/hypha-login/oidc/start?key=abc"
    await page.goto(start)
    assert page.url == f"{oidc_hub.cluster.url}/public/apps/hypha-login/?key=abc"
    await page.goto(f"data:text/html,<a href='{start}'>Free money</a>")
    await page.get_by_role("link", name="Free money").click()
    await page.wait_for_url(f"{oidc_hub.cluster.url}/public/apps/hypha-login/?key=abc")
