from __future__ import annotations

import pytest
from hypha_rpc import connect_to_server
from playwright.async_api import Page

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.people import Person
from tests.getting_started.conftest import Hello, Snippet, hello, snippet

__all__ = ["hello", "snippet"]

pytestmark = pytest.mark.browser


@pytest.fixture
def printed(client_page: Page) -> list[str]:
    lines: list[str] = []
    client_page.on("console", lambda message: lines.append(message.text))
    return lines


async def test_client(hello: Hello, snippet: Snippet, client_page: Page, printed: list[str]) -> None:
    code = snippet("client.js", service_id=hello.service_id)
    await client_page.evaluate(f"async () => {{ {code}; await main(); }}")
    assert "Hello John" in printed


async def test_environment_variables(
    cluster: RunningCluster, snippet: Snippet, client_page: Page, printed: list[str]
) -> None:
    code = snippet("env.js", token=cluster.user_token()).replace("\nmain();", "\nawait main();")
    await client_page.evaluate(f"async () => {{ {code} }}")
    assert "Database URL: postgres://localhost:5432/mydb" in printed


async def test_server_with_login(
    cluster: RunningCluster, snippet: Snippet, client_page: Page, printed: list[str], person: Person
) -> None:
    """The login page opens in a window of its own, which closes when the person has logged in there."""
    async with client_page.expect_popup() as opened:
        await client_page.evaluate(f"() => {{ {snippet('server.js')} }}")
    window = await opened.value
    await window.get_by_label("Email").fill(person.email)
    await window.get_by_label("Password").fill(person.password)
    async with (
        client_page.expect_console_message(lambda message: "via the HTTP proxy" in message.text, timeout=10000),
        window.expect_event("close"),
    ):
        await window.get_by_role("button", name="Log in", exact=True).click()
    assert f"Hello world service registered at workspace: ws-user-{person.user_id}" in "\n".join(printed)

    async with connect_to_server({"server_url": cluster.url}) as server:
        service_id = next(line for line in printed if "using the service id: " in line).split()[-1]
        service = await server.get_service(service_id)
        async with client_page.expect_console_message(lambda message: message.text == "Hello John"):
            assert await service.hello("John") == "Hello John"
