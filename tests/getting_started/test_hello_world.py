from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from html import unescape

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.scripts import StartScript

from .conftest import Hello, Snippet


async def test_asynchronous_server(hello: Hello, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """It prints where its service is, and the printed address answers in a browser."""
    used = await hello.script.line(r"You can use this service using the service id: (\S+)$")
    tested = await hello.script.line(r"You can also test the service via the HTTP proxy: (\S+)$")
    assert used[1] == hello.service_id
    assert re.fullmatch(rf"{re.escape(hello.workspace)}/\w+:hello-world", hello.service_id)
    assert tested[1].startswith(f"{cluster.url}/{hello.workspace}/services/")

    answer = await http.get(tested[1])

    assert (answer.status_code, answer.json()) == (200, "Hello John")
    await hello.script.line("^Hello John$")


async def test_synchronous_server(start_script: StartScript, snippet: Snippet) -> None:
    script = await start_script(snippet("sync_server.py"))
    output = await script.end()
    assert re.search(
        r"Hello world service registered at workspace: ws-user-\S+, id: ws-user-\S+:hello-world$", output, re.M
    )


async def test_synchronous_server_answers_while_it_runs(
    start_script: StartScript, snippet: Snippet, http: httpx.AsyncClient
) -> None:
    """The document says to keep the script running."""
    code = snippet("sync_server.py")
    end = code.index("\nif __name__")
    script = await start_script(code[:end].rstrip() + "\n        input()\n" + code[end:])
    tested = await script.line(r"via the HTTP proxy: (\S+)$")

    assert (await http.get(tested[1])).json() == "Hello John"


@pytest.mark.parametrize("name", ["async_client.py", "sync_client.py"])
async def test_python_client(name: str, hello: Hello, start_script: StartScript, snippet: Snippet) -> None:
    client = await start_script(snippet(name, service_id=hello.service_id))
    assert (await client.end()).splitlines()[0] == "Hello John"


async def test_get_remote_service(hello: Hello, start_script: StartScript, snippet: Snippet) -> None:
    code = snippet("remote_service.py", service_id=hello.service_id)
    client = await start_script(code + '\nprint(await svc.hello("John"))')
    assert "Hello John\n" in await client.end()


async def test_get_remote_service_without_client_id(hello: Hello, start_script: StartScript, snippet: Snippet) -> None:
    """The document calls the client id optional."""
    client_id = hello.service_id.split("/")[1].split(":")[0]
    code = snippet("remote_service.py", service_id=hello.service_id).replace(f"{client_id}:", "")
    client = await start_script(code + '\nprint(await svc.hello("John"))')
    assert "Hello John\n" in await client.end()


async def test_clean_up(cluster: RunningCluster, start_script: StartScript, snippet: Snippet) -> None:
    prelude = f'from hypha_rpc import connect_to_server\nserver_url = "{cluster.url}"\n'
    script = await start_script(prelude + snippet("clean_up.py") + "\nprint('closed')")
    assert "closed\n" in await script.end()


@pytest.mark.node
async def test_javascript_client(hello: Hello, start_script: StartScript, snippet: Snippet) -> None:
    code = snippet("client.js", service_id=hello.service_id)
    client = await start_script(code + "\nawait main(); process.exit(0)", language="js")
    assert "Hello John\n" in await client.end()


@pytest.mark.node
async def test_javascript_get_remote_service(
    cluster: RunningCluster, hello: Hello, start_script: StartScript, snippet: Snippet
) -> None:
    code = snippet("remote_service.js", service_id=hello.service_id)
    # The client of today takes the server out of the address but then looks for it under another name.
    code = code.replace(':hello-world")', f':hello-world", {{server_url: "{cluster.url}"}})')
    client = await start_script(code + "\nprocess.exit(0)", language="js")
    assert "Hello John\n" in await client.end()


async def test_http_proxy(hello: Hello, http: httpx.AsyncClient) -> None:
    address = f"/{hello.workspace}/services/{hello.service_id.split('/')[1]}"
    calls = [
        await http.get(f"{address}/hello", params={"name": "John"}),
        await http.post(f"{address}/hello", json={"name": "John"}),
        await http.get(f"/{hello.workspace}/services/hello-world/hello", params={"name": "John"}),
    ]
    assert [(call.status_code, call.json()) for call in calls] == [(200, "Hello John")] * 3
    listed = (await http.get(f"/{hello.workspace}/services/")).json()
    assert [service["name"] for service in listed if service["type"] != "built-in"] == ["Hello World"]


async def test_service_is_gone_with_its_script(hello: Hello, http: httpx.AsyncClient) -> None:
    await hello.script.kill()
    address = f"/{hello.workspace}/services/{hello.service_id.split('/')[1]}/hello"
    async with asyncio.timeout(5):
        # Between the end of its socket and that of its registration it is one that is not connected.
        while (answer := await http.get(address, params={"name": "John"})).status_code == 503:
            assert "not connected" in answer.json()["detail"]
    assert answer.status_code == 404
    assert "Service not found" in answer.json()["detail"] or "not connected" in answer.json()["detail"]


async def test_server_for_other_computers(start_cluster: Callable[..., RunningCluster]) -> None:
    """``python3 -m hypha.server --host=0.0.0.0``: what a client prints can be opened on this computer."""
    server = start_cluster("--host=0.0.0.0")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", server.url)
    async with connect_to_server({"server_url": server.url}) as client:
        service = {"id": "s", "config": {"visibility": "public"}, "f": lambda: 1}
        registered = await client.register_service(service)
        address = (await client.get_service(registered.id)).config.url + "/f"
        async with httpx.AsyncClient() as http:
            assert (await http.get(address)).json() == 1


async def test_front_page_shows_the_version(http: httpx.AsyncClient) -> None:
    """
    "You can test if the server is running by visiting it and checking the Hypha server version".
    """
    answer = await http.get("/")
    assert answer.status_code == 200
    assert re.search(r"Server \d+\.\d+", answer.text)


async def test_programs_of_the_front_page(http: httpx.AsyncClient, start_script: StartScript) -> None:
    """What is shown there works as it stands, but for the id that has to be put in."""
    page = (await http.get("/")).text
    server, client, _, curl = (unescape(code) for code in re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.S))
    running = await start_script(server)
    service_id = (await running.line(r"^ws-user-\S+:hello$"))[0]
    calling = await start_script(client.replace("the id that was printed", service_id))
    assert "Hello world\n" in await calling.end()
    workspace, _, name = service_id.partition("/")
    address = curl.removeprefix("curl ").strip('"').replace("WORKSPACE", workspace)
    assert (await http.get(address.replace("CLIENT", name.partition(":")[0]))).json() == "Hello world"
