"""Apps that run in Chromium."""

from __future__ import annotations

import pytest

from .conftest import ConnectUser
from .pages import contents, page_app

pytestmark = pytest.mark.browser


async def test_a_page_is_started_called_and_stopped(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    await page_app(server, "greeter", body="<p>hello</p>")
    session = await apps.start("greeter")
    assert session["worker_id"].startswith("public/browser-worker-0-")
    page = await server.get_service(session["service_id"])
    assert await page.echo({"number": 1}) == {"number": 1}
    assert await page.look("console.log('seen', 1); document.querySelector('p').textContent") == "hello"
    assert "console: [log] seen 1" in await contents(apps, session, "seen 1")
    await apps.stop(session["id"])
    assert await apps.list_running() == []
