from __future__ import annotations

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster

from .conftest import AUTHORIZED

SECOND = "/public/services/second"


async def test_the_document_s_example(startup_cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """Over HTTP and RPC, at ``public/<server_id>``; what it prints is seen where the server runs."""
    answer = await http.get("/public/services/test-service/test", params={"x": "over HTTP"})
    assert (answer.status_code, answer.json()) == (200, None)
    async with connect_to_server({"server_url": startup_cluster.url}) as client:
        service = await client.get_service("public/test-service")
        assert service.id == "public/hypha:test-service"
        assert await service.test("over RPC") is None
    output = startup_cluster.output.splitlines()
    assert [line for line in output if line.startswith("Test: ")] == ["Test: over HTTP", "Test: over RPC"]


async def test_several_functions_and_a_module(http: httpx.AsyncClient) -> None:
    """Each of one server's; a repeated flag adds."""
    listed = (await http.get("/public/services/")).json()
    ids = [info["id"] for info in listed if info["id"].startswith("hypha:")]
    assert ids == ["hypha:built-in", "hypha:test-service", "hypha:second", "hypha:context-service"]


async def test_user_context(startup_cluster: RunningCluster) -> None:
    """The document's example of authorization by user."""
    async with connect_to_server({"server_url": startup_cluster.url}) as client:
        service = await client.get_service("public/context-service")
        with pytest.raises(Exception, match="User None is not authorized to access this service"):
            await service.test("no")
    token = startup_cluster.user_token("somebody")
    async with connect_to_server({"server_url": startup_cluster.url, "token": token}) as client:
        assert client.config.user["email"] == AUTHORIZED
        await (await client.get_service("public/context-service")).test("known")
    assert "Test: known" in startup_cluster.output


async def test_configuration(startup_cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    wanted = {"server_id": "hypha", "workspace": "public", "client_id": "hypha"}
    wanted |= dict.fromkeys(("public_base_url", "local_base_url"), startup_cluster.url)
    assert {name: (await http.get(f"{SECOND}/about", params={"name": name})).json() for name in wanted} == wanted
    assert (await http.get(f"{SECOND}/about", params={"name": "hypha_version"})).json()


async def test_api_of_a_client(http: httpx.AsyncClient) -> None:
    """Attributes and items, codecs and events; modules beside the file can be imported."""
    assert (await http.get(f"{SECOND}/items")).json() == ["public", True, True]
    assert (await http.get(f"{SECOND}/point")).json() == [1.0, 2.0]
    assert (await http.get(f"{SECOND}/emit")).json() is True
    assert (await http.get(f"{SECOND}/beside")).json() == "beside"


async def test_root_user(http: httpx.AsyncClient) -> None:
    root = (await http.get(f"{SECOND}/root")).json()
    assert (root["id"], root["roles"], root["scope"]["workspaces"]) == ("root", ["admin"], {"*": "a"})


async def test_there_is_no_store(http: httpx.AsyncClient) -> None:
    """It says what to use instead."""
    texts = (await http.get(f"{SECOND}/no_store")).json()
    assert len(texts) == 2
    assert all("get_workspace_interface" in text for text in texts)


async def test_acting_in_another_workspace(http: httpx.AsyncClient) -> None:
    """As a user, with that user's rights."""
    user = {"id": "alice", "roles": ["user"], "email": "alice@example.org"}
    done = await http.post(f"{SECOND}/acting_as", json={"user": user, "workspace": "ws-user-alice"})
    assert done.json() == {"id": "ws-user-alice/acting:made", "user": "alice", "echo": "x"}
    refused = await http.post(f"{SECOND}/acting_as", json={"user": user, "workspace": "ws-user-root"})
    assert refused.status_code >= 400
    assert "Permission denied for workspace: ws-user-root" in refused.text


async def test_environment(startup_cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """The author's variables are there, the cluster's secrets are not."""
    environment = (await http.get(f"{SECOND}/environment")).json()
    assert environment["AUTHORS_VARIABLE"] == "kept"
    assert not [name for name in environment if "SECRET" in name or "PASSWORD" in name or "TOKEN" in name]
    assert startup_cluster.root_token not in environment.values()


async def test_launching_a_program(http: httpx.AsyncClient) -> None:
    """``hypha_rpc.utils.launch`` gives it address, workspace and token."""
    answer = await http.get(f"{SECOND}/launch")
    assert (answer.status_code, answer.json()) == (200, "launched")
