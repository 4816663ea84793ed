from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from hypha_common.ids import new_id
from tests.browser.test_pages import CONTRASTS, LOOKS, MIN_CONTRAST, SIZES
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.people import Person, sign_up

pytestmark = pytest.mark.browser

PASSWORD = "correct horse"
_TOKEN = re.compile(r"^[\w-]+\.[\w-]+\.[\w-]+$")


async def _start(cluster: RunningCluster, **wishes: object) -> dict[str, str]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=20) as http:
        started: dict[str, str] = (await http.post("/public/services/hypha-login/start", json=wishes)).json()
        return started


async def _fits(page: Page) -> None:
    """Nothing is cut off, and all of it can be read."""
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    poor = [(ratio, text) for ratio, text in await page.evaluate(CONTRASTS) if ratio < MIN_CONTRAST]
    assert poor == []


@pytest.fixture(params=LOOKS, ids="-".join)
async def page(request: pytest.FixtureRequest, browser: Browser) -> AsyncIterator[Page]:
    """A page of each size and colour scheme, and without scripts in the dark: nothing depends on them."""
    size, scheme = request.param
    context = await browser.new_context(
        viewport=SIZES[size], color_scheme=scheme, java_script_enabled=scheme == "light"
    )
    page = await context.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    yield page
    await context.close()
    assert refused == []


async def test_life_of_an_account(cluster: RunningCluster, page: Page) -> None:
    """Sign up, be asked by a program, get a token, change the password, leave."""
    email = f"{new_id(24)}@long-name-of-an-institute.example.org".lower()
    await page.goto(f"{cluster.url}/login")
    await _fits(page)
    await page.get_by_role("link", name="Create an account").click()
    await _fits(page)
    await page.get_by_label("Name").fill("Augusta Ada King-Noel, Countess of Lovelace")
    await page.get_by_label("Email").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("You are logged in")
    await expect(page.get_by_text(email)).to_be_visible()

    started = await _start(cluster)
    await page.goto(started["login_url"])
    await _fits(page)
    await page.get_by_role("button", name=f"Continue as {email}").click()
    await expect(page.get_by_text("You can close this window")).to_be_visible()
    await _fits(page)

    await page.goto(f"{cluster.url}/login")
    for summary in await page.locator("summary").all():
        await summary.click()
    await _fits(page)
    await page.get_by_label("It may").select_option("Look only")
    await page.get_by_role("button", name="Generate token").click()
    await expect(page.get_by_label("Token", exact=True)).to_have_value(_TOKEN)
    await _fits(page)
    await page.get_by_role("link", name="Back").click()
    await page.get_by_text("Change your password").click()
    await page.get_by_label("Current password").fill(PASSWORD)
    await page.get_by_label("New password").fill("another horse")
    await page.get_by_role("button", name="Change password").click()
    await expect(page.get_by_role("status")).to_have_text("Your password is changed.")
    # What was logged in with the old one ends, this browser excepted.
    await page.reload()
    await expect(page.get_by_text(email)).to_be_visible()
    await page.get_by_role("link", name="Log out").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("You are logged out")
    await _fits(page)

    await page.get_by_role("link", name="Log in again").click()
    await page.get_by_label("Email").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in", exact=True).click()
    await expect(page.get_by_role("alert")).to_have_text("Invalid email or password")
    await expect(page.get_by_label("Password")).to_be_focused()
    await _fits(page)


async def test_inside_a_page(cluster: RunningCluster, person: Person, page_url: str) -> None:
    """A page of another site embeds the login, is told when it is done, and fetches the token."""
    started = await _start(cluster)
    outer = person.page
    await outer.goto(page_url)
    await outer.evaluate(
        """(url) => new Promise((embedded) => {
          window.told = new Promise((done) => addEventListener("message", (event) => done(event.data)));
          const frame = document.createElement("iframe");
          frame.addEventListener("load", () => embedded(), { once: true });
          frame.src = url;
          document.body.append(frame);
        })""",
        started["login_url"],
    )
    frame = outer.frame_locator("iframe")
    await expect(frame.get_by_text(f"from a page of {page_url.rstrip('/')}")).to_be_visible()
    await frame.get_by_label("Email").fill(person.email)
    await frame.get_by_label("Password").fill(person.password)
    await frame.get_by_role("button", name="Log in", exact=True).click()
    assert await outer.evaluate("() => window.told") == {"type": "hypha-login-complete", "key": started["key"]}
    async with httpx.AsyncClient(base_url=cluster.url, timeout=20) as http:
        check = {"key": started["key"], "timeout": 0, "profile": True}
        profile = (await http.post("/public/services/hypha-login/check", json=check)).json()
    assert profile["user_id"] == person.user_id


async def test_one_click_is_never_framed(cluster: RunningCluster, person: Person, page_url: str) -> None:
    """The page of who is logged in does not show inside another one, where a click could be stolen."""
    await person.page.goto(f"{cluster.url}/login")
    await person.type_password()
    await expect(person.page.get_by_role("heading", level=1)).to_have_text("You are logged in")
    started = await _start(cluster)
    await person.page.goto(page_url)
    await person.page.set_content(f'<iframe src="{started["login_url"]}"></iframe>')
    frame = person.page.frame_locator("iframe")
    await expect(frame.get_by_label("Password")).to_be_visible()
    await expect(frame.get_by_role("button", name="Continue as")).to_have_count(0)


async def test_somebody_else(cluster: RunningCluster, person: Person) -> None:
    """Two people share a browser: the second one logs in over the first one."""
    other = await sign_up(cluster.url, f"{new_id(8)}@example.org".lower(), PASSWORD)
    await person.page.goto(f"{cluster.url}/login")
    await person.type_password()
    started = await _start(cluster)
    await person.page.goto(started["login_url"])
    await person.page.get_by_role("link", name="Log in as somebody else").click()
    await person.page.get_by_label("Email").fill(other["email"])
    await person.page.get_by_label("Password").fill(PASSWORD)
    await person.page.get_by_role("button", name="Log in", exact=True).click()
    await expect(person.page.get_by_text("You can close this window")).to_be_visible()
    await person.page.goto(f"{cluster.url}/login")
    await expect(person.page.get_by_text(other["user_id"], exact=True)).to_be_visible()
