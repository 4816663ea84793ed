from __future__ import annotations

import asyncio
import json
import re
import shlex
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.scripts import Script, StartScript

from .conftest import Hello, Snippet


class Person:
    """Somebody who opens the printed address and pastes their token."""

    def __init__(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        self.id = "ada"
        self.token = cluster.user_token(self.id)
        self._http = http

    async def log_in(self, address: str) -> None:
        page = await self._http.get(address)
        assert page.status_code == 200
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
        answer = await self._http.post(address, data=fields | {"token": self.token})
        assert answer.status_code == 200
        assert "You are logged in" in answer.text


@pytest.fixture
def person(cluster: RunningCluster, http: httpx.AsyncClient) -> Person:
    return Person(cluster, http)


async def _printed(script: Script) -> str:
    return (await script.line(r"(http://\S+/apps/hypha-login/\?\S+)"))[1]


@pytest.mark.parametrize("name", ["login.py", "login_sync.py"])
async def test_python_login(name: str, person: Person, start_script: StartScript, snippet: Snippet) -> None:
    code = snippet(name).replace("    pass", '    print("user:", server.config.user["id"])')
    script = await start_script(code)
    await person.log_in(await _printed(script))
    assert "user: ada\n" in await script.end()


@pytest.mark.node
async def test_javascript_login(person: Person, start_script: StartScript, snippet: Snippet) -> None:
    code = snippet("login.js").replace("// ... use", 'console.log("user:", server.config.user.id) // ... use')
    script = await start_script(code + "\nawait main(); process.exit(0)", language="js")
    await person.log_in(await _printed(script))
    assert "user: ada\n" in await script.end()


async def test_login_for_one_workspace(
    cluster: RunningCluster, person: Person, start_script: StartScript, snippet: Snippet
) -> None:
    """The token opens the named workspace; it expires when that was asked for."""
    async with connect_to_server({"server_url": cluster.url, "token": person.token}) as server:
        await server.create_workspace({"name": "my-workspace", "owners": [person.id]}, overwrite=True)
        prelude = f'from hypha_rpc import connect_to_server, login\nSERVER_URL = "{cluster.url}"\n'
        connect = snippet("connect_workspace.py").replace(
            "    pass", "    print('workspace:', server.config.workspace)\n    print(await server.parse_token(token))"
        )
        script = await start_script(prelude + snippet("login_workspace.py") + connect)
        await person.log_in(await _printed(script))
        output = await script.end()
    assert "workspace: my-workspace\n" in output
    assert "'current_workspace': 'my-workspace'" in output


async def test_login_callback_and_timeout(cluster: RunningCluster, start_script: StartScript, snippet: Snippet) -> None:
    """The callback gets what the document says; nobody logs in, so that login() gives up after three seconds."""
    prelude = f'from hypha_rpc import login\nSERVER_URL = "{cluster.url}"\n' + snippet("login_callback.py")
    use = "    print('key:', context['key'], 'report:', context['report_url'])\nlogin_callback = callback\ntry:\n"
    attempt = "".join(f"    {line}\n" for line in snippet("login_arguments.py").splitlines())
    script = await start_script(f"{prelude}{use}{attempt}except Exception as error:\n    print('failed:', error)")
    assert await script.line(rf"Go to login url: {cluster.url}/public/apps/hypha-login/\?key=\w+")
    assert await script.line(rf"key: \w+ report: {cluster.url}/public/services/hypha-login/report$")
    assert "Login timeout, waited for 3" in await script.end()


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


async def _curl(command: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), "--silent", "--show-error", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)
