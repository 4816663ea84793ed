from __future__ import annotations

import asyncio
import json
import shlex
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypha_rpc import connect_to_server
from playwright.async_api import Browser, Page, expect

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.people import Person
from tests.fixtures.scripts import Script, StartScript

from .conftest import Hello, Snippet

pytestmark = pytest.mark.browser


async def _printed(script: Script) -> str:
    return (await script.line(r"(http://\S+/apps/hypha-login/\?\S+)"))[1]


@pytest.mark.parametrize("name", ["login.py", "login_sync.py"])
async def test_python_login(name: str, person: Person, start_script: StartScript, snippet: Snippet) -> None:
    code = snippet(name).replace("    pass", '    print("user:", server.config.user["id"])')
    script = await start_script(code)
    await person.log_in(await _printed(script))
    assert f"user: {person.user_id}\n" in await script.end()


async def test_from_nothing(
    cluster: RunningCluster, browser: Browser, start_script: StartScript, snippet: Snippet
) -> None:
    """A new user on a new server: the printed address leads to an account and back into the program."""
    code = snippet("login.py").replace("    pass", '    print("user:", server.config.user["email"])')
    script = await start_script(code)
    page = await browser.new_page()
    await page.goto(await _printed(script))
    await page.get_by_role("link", name="Create an account").click()
    email = f"{new_id(8)}@example.org".lower()
    await page.get_by_label("Name").fill("Ada")
    await page.get_by_label("Email").fill(email)
    await page.get_by_label("Password").fill("a password of mine")
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("You are logged in")
    assert f"user: {email}\n" in await script.end()
    await page.close()


async def test_login_with_a_token(
    cluster: RunningCluster, person: Person, start_script: StartScript, snippet: Snippet
) -> None:
    """Somebody who has a token already may paste it instead."""
    code = snippet("login.py").replace("    pass", '    print("user:", server.config.user["id"])')
    script = await start_script(code)
    await person.page.goto(await _printed(script))
    await person.page.get_by_text("Log in with a token").click()
    await person.page.get_by_label("Your token").fill(cluster.user_token("ada"))
    await person.page.get_by_role("button", name="Log in with the token").click()
    assert "user: ada\n" in await script.end()


async def test_javascript_login_in_a_page(client_page: Page, person: Person, snippet: Snippet) -> None:
    code = snippet("login.js").replace("// ... use", 'console.log("user:", server.config.user.id) // ... use')
    async with client_page.expect_console_message(lambda message: "login at" in message.text) as printed:
        await client_page.evaluate(f"() => {{ {code}; window.done = main(); }}")
    address = (await printed.value).text.split()[-1]
    async with client_page.expect_console_message(lambda message: message.text == f"user: {person.user_id}"):
        await person.log_in(address)
    await client_page.evaluate("() => window.done")


@pytest.mark.node
async def test_javascript_login(person: Person, start_script: StartScript, snippet: Snippet) -> None:
    code = snippet("login.js").replace("// ... use", 'console.log("user:", server.config.user.id) // ... use')
    script = await start_script(code + "\nawait main(); process.exit(0)", language="js")
    await person.log_in(await _printed(script))
    assert f"user: {person.user_id}\n" in await script.end()


async def test_login_for_one_workspace(
    cluster: RunningCluster, person: Person, start_script: StartScript, snippet: Snippet
) -> None:
    """The token opens the named workspace, and nothing else; it expires when that was asked for."""
    async with connect_to_server({"server_url": cluster.url, "token": person.token}) as server:
        name = await _workspace(server)
        prelude = f'from hypha_rpc import connect_to_server, login\nSERVER_URL = "{cluster.url}"\n'
        login = snippet("login_workspace.py").replace("my-workspace", name)
        connect = (
            snippet("connect_workspace.py")
            .replace("my-workspace", name)
            .replace(
                "    pass",
                "    print('workspace:', server.config.workspace)\n    print(await server.parse_token(token))",
            )
        )
        script = await start_script(prelude + login + connect)
        address = await _printed(script)
        await person.page.goto(address)
        await expect(person.page.get_by_text("only, for 1 hour")).to_be_visible()
        await person.log_in(address)
        output = await script.end()
    assert f"workspace: {name}\n" in output
    assert f"'current_workspace': '{name}'" in output
    assert f"'workspaces': {{'{name}': 'a'}}" in output


async def test_login_for_one_workspace_without_a_client(
    cluster: RunningCluster, person: Person, http: httpx.AsyncClient
) -> None:
    """Over HTTP, too, the wishes of the start hold; the token acts there and nowhere else."""
    async with connect_to_server({"server_url": cluster.url, "token": person.token}) as server:
        name = await _workspace(server)
        wishes = {"workspace": name, "expires_in": 120}
        started = (await http.post("/public/services/hypha-login/start", json=wishes)).json()
        await person.log_in(started["login_url"])
        check = {"key": started["key"], "timeout": 0, "profile": True}
        profile = (await http.post("/public/services/hypha-login/check", json=check)).json()
        assert (profile["user_id"], profile["email"], profile["name"]) == (person.user_id, person.email, "Ada")
        assert (profile["workspace"], profile["expires_in"], profile["email_verified"]) == (name, 120, True)
        user = await _user(cluster, profile["token"], name)
        assert user["scope"]["workspaces"] == {name: "a"}
        assert user["expires_at"] == pytest.approx(time.time() + 120, abs=30)
        with pytest.raises(Exception, match="does not match the specified workspace"):
            await _user(cluster, profile["token"], f"ws-user-{person.user_id}")


async def test_login_callback_and_timeout(cluster: RunningCluster, start_script: StartScript, snippet: Snippet) -> None:
    """The callback gets what the document says; nobody logs in, so that login() gives up after three seconds."""
    prelude = f'from hypha_rpc import login\nSERVER_URL = "{cluster.url}"\n' + snippet("login_callback.py")
    use = "    print('key:', context['key'], 'report:', context['report_url'])\nlogin_callback = callback\ntry:\n"
    attempt = "".join(f"    {line}\n" for line in snippet("login_arguments.py").splitlines())
    script = await start_script(f"{prelude}{use}{attempt}except Exception as error:\n    print('failed:', error)")
    assert await script.line(rf"Go to login url: {cluster.url}/public/apps/hypha-login/\?key=\w+")
    assert await script.line(rf"key: \w+ report: {cluster.url}/public/services/hypha-login/report$")
    assert "Login timeout, waited for 3" in await script.end()


async def test_login_callback(
    cluster: RunningCluster, person: Person, start_script: StartScript, snippet: Snippet
) -> None:
    """The program shows the address as it likes, and gets the token."""
    prelude = f'from hypha_rpc import login\nSERVER_URL = "{cluster.url}"\n' + snippet("login_callback.py")
    attempt = snippet("login_arguments.py").replace('"login_timeout": 3', '"login_timeout": 30')
    script = await start_script(f"{prelude}login_callback = callback\n{attempt}print('token:', token)\n")
    await person.log_in((await script.line(r"Go to login url: (\S+)"))[1])
    assert (await script.line(r"token: (\S+)"))[1].count(".") == 2


async def test_login_without_a_client(person: Person, hello: Hello, snippet: Snippet) -> None:
    """curl, three times: begin, wait for the token, use it."""
    started = await _curl(snippet("login_start.sh"))
    assert started.keys() >= {"login_url", "key", "report_url"}
    assert parse_qs(urlsplit(started["login_url"]).query)["key"] == [started["key"]]

    check = snippet("login_check.sh").replace("mihDumpHGYxkPdSEKB7GgM", started["key"])
    waiting = asyncio.create_task(_curl(check))
    await person.log_in(started["login_url"])
    token = await waiting
    assert token.count(".") == 2

    # A header name must not end in a blank, as it does in the document.
    call = snippet("bearer.sh").replace("Authorization :", "Authorization:").replace("<token>", token)
    assert await _curl(call.replace("/public/", f"/{hello.workspace}/")) == "Hello John"


async def test_check_ends_when_nobody_logs_in(snippet: Snippet) -> None:
    started = await _curl(snippet("login_start.sh"))
    check = snippet("login_check.sh").replace("mihDumpHGYxkPdSEKB7GgM", started["key"])
    answer = await _curl(check.replace('"timeout": 10', '"timeout": 1'))
    assert "Login timeout, waited for 1 seconds" in answer["detail"]


async def _workspace(server: Any) -> str:
    name = f"my-workspace-{new_id(6).lower()}"
    await server.create_workspace({"name": name})
    return name


async def _user(cluster: RunningCluster, token: str, workspace: str) -> Any:
    async with connect_to_server({"server_url": cluster.url, "token": token, "workspace": workspace}) as server:
        return await server.parse_token(token)


async def _curl(command: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), "--silent", "--show-error", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)
