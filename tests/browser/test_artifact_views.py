"""Sites of artifacts, and the page of a collection, in a browser: what they look like, and what they may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypha_rpc import connect_to_server
from playwright.async_api import Browser, Page, expect

from tests.browser.test_pages import CONTRASTS, LOOKS, MIN_CONTRAST, SIZES
from tests.cluster.running_cluster import RunningCluster

pytestmark = pytest.mark.browser

_COVER = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><rect width="40" height="20" fill="#0b6b50"/>
<circle cx="20" cy="10" r="6" fill="#6fd3b2"/></svg>"""
_SITE = {
    "index.html": b"""<!doctype html><html lang="en"><title>Site</title><link rel="stylesheet" href="style.css">
<h1>{{ artifact.manifest.name }}</h1><p id="out"></p><a href="about/">About</a>
<script src="page.js"></script></html>""",
    "about/index.html": b"""<!doctype html><html lang="en"><title>About</title>
<link rel="stylesheet" href="../style.css"><h1>About</h1></html>""",
    "style.css": b"body { font: 1rem system-ui; margin: 2rem; background: white; color: rgb(20, 20, 20) }",
    "page.js": b"""const seen = [];
try { seen.push(document.cookie) } catch (error) { seen.push(error.name) }
try { seen.push(localStorage.length) } catch (error) { seen.push(error.name) }
document.getElementById("out").textContent = `${origin} ${seen.join(" ")}`;""",
}


@pytest_asyncio.fixture
async def view_url(cluster: RunningCluster) -> AsyncIterator[str]:
    """Where a collection ``zoo`` of animals and a site ``site`` are viewed."""
    async with connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server:
        manager = await server.get_service("public/artifact-manager")
        await _collection(manager)
        config = {"permissions": {"*": "r"}, "view_config": {"templates": ["index.html"]}}
        await _publish(manager, "site", _SITE, manifest={"name": "A <small> site"}, config=config, overwrite=True)
        yield f"{cluster.url}/{server.config.workspace}/view"


async def _collection(manager: Any) -> None:
    manifest = {
        "name": "Zoo of models",
        "description": "Models of animals that were trained on pictures of a real zoo.\nEverybody may use them.",
        "tags": ["animals", "segmentation", "2d"],
        "git_repo": "https://git.example/zoo",
        "links": [{"label": "Paper", "url": "https://paper.example"}],
        "id_emoji": "🦓",
    }
    await manager.create(
        alias="zoo", type="collection", manifest=manifest, config={"permissions": {"*": "r"}}, overwrite=True
    )
    for name, kind, tags in (
        ("Affable Shark", "model", ["nucleus", "unet"]),
        ("A name without a single space: " + "antidisestablishmentarianism" * 3, "dataset", ["long"]),
        ("Determined Hedgehog", "application", []),
    ):
        alias = name.split()[1].lower()
        manifest = {"name": name, "description": f"{name} finds things in pictures. " * 8, "tags": tags}
        manifest["covers"] = ["cover.svg"]
        await manager.create(alias=alias, type=kind, parent_id="zoo", manifest=manifest, stage=True)
        address = await manager.put_file(alias, "cover.svg")
        async with httpx.AsyncClient() as http:
            (await http.put(address, content=_COVER)).raise_for_status()
        await manager.commit(alias)


async def _publish(manager: Any, alias: str, files: dict[str, bytes], **fields: Any) -> None:
    await manager.create(alias=alias, stage=True, **fields)
    async with httpx.AsyncClient() as http:
        for path, data in files.items():
            (await http.put(await manager.put_file(alias, path), content=data)).raise_for_status()
    await manager.commit(alias)


async def test_the_page_of_a_collection(view_url: str, browser: Browser, tmp_path: Path) -> None:
    """On a desktop and a phone, light and dark: readable, nothing cut off, and its cards lead on."""
    for size, scheme in LOOKS:
        context = await browser.new_context(viewport=SIZES[size], color_scheme=scheme)
        page = await context.new_page()
        complaints: list[str] = []
        page.on(
            "console", lambda message, found=complaints: found.append(message.text) if message.type == "error" else None
        )
        await page.goto(f"{view_url}/zoo", wait_until="networkidle")
        await page.screenshot(path=tmp_path / f"zoo-{size}-{scheme}.png", full_page=True)
        await expect(page.get_by_role("heading", level=1)).to_have_text("🦓 Zoo of models")
        await expect(page.get_by_role("listitem").filter(has=page.get_by_role("heading", level=3))).to_have_count(3)
        images = await page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        assert len(images) == 3 and all(images)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        contrasts = await page.evaluate(CONTRASTS)
        assert contrasts and [text for ratio, text in contrasts if ratio < MIN_CONTRAST] == []
        assert [text for text in complaints if "favicon" not in text] == []
        await page.get_by_role("link", name="Determined Hedgehog").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Determined Hedgehog")
        await expect(page.get_by_text("Application in workspace")).to_be_visible()
        await page.screenshot(path=tmp_path / f"application-{size}-{scheme}.png", full_page=True)
        await context.close()


async def test_a_site(view_url: str, browser: Browser, tmp_path: Path) -> None:
    """Relative links work, scripts run; of this server they have neither cookies nor storage."""
    context = await browser.new_context()
    page: Page = await context.new_page()
    await context.add_cookies([{"name": "of_the_server", "value": "secret", "url": view_url}])
    await page.goto(f"{view_url}/site")
    assert page.url == f"{view_url}/site/"
    await expect(page.get_by_role("heading")).to_have_text("A <small> site")
    await expect(page.locator("#out")).to_have_text("null SecurityError SecurityError")
    await expect(page.locator("body")).to_have_css("color", "rgb(20, 20, 20)")
    await page.screenshot(path=tmp_path / "site.png")
    await page.get_by_role("link", name="About").click()
    await expect(page).to_have_url(f"{view_url}/site/about/")
    await expect(page.locator("body")).to_have_css("color", "rgb(20, 20, 20)")
    await context.close()
