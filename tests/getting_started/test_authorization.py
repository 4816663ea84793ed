from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster

from .conftest import Snippet


async def test_second_client_in_the_same_workspace(cluster: RunningCluster) -> None:
    """A token from the client that registered the service lets another one in; without it the service is hidden."""
    async with connect_to_server({"server_url": cluster.url}) as server:
        service = {"id": "hidden", "config": {"visibility": "protected"}, "test": lambda x: x + 1}
        registered = await server.register_service(service)
        token = await server.generate_token()
        workspace = server.config.workspace

        async with connect_to_server({"workspace": workspace, "token": token, "server_url": cluster.url}) as second:
            assert second.config.workspace == workspace
            assert await (await second.get_service("hidden")).test(1) == 2

        async with connect_to_server({"server_url": cluster.url}) as stranger:
            with pytest.raises(Exception, match="Permission denied for non-public service"):
                await stranger.get_service(registered.id)


async def test_user_context(cluster: RunningCluster, snippet: Snippet, capsys: pytest.CaptureFixture[str]) -> None:
    """The document's service lets in whom it knows, by any way of calling, and nobody else."""
    names: dict[str, Any] = {"authorized_users": ["ada@example.org"]}
    exec(snippet("user_context.py"), names)
    ada, eve = cluster.user_token("ada"), cluster.user_token("eve")
    async with connect_to_server({"server_url": cluster.url}) as server:
        await names["start_service"](server)
        service_id = f"{server.config.workspace}/{server.config.client_id}:test-service"

        async with connect_to_server({"server_url": cluster.url, "token": ada}) as client:
            await (await client.get_service(service_id)).test(27)
        assert "Test: 27" in capsys.readouterr().out

        for token in (eve, None):
            async with connect_to_server({"server_url": cluster.url, "token": token}) as client:
                service = await client.get_service(service_id)
                with pytest.raises(Exception, match="is not authorized to access this service"):
                    await service.test(28)

        path = f"/{server.config.workspace}/services/test-service/test"
        async with httpx.AsyncClient(base_url=cluster.url) as http:
            answers = [
                await http.get(path, params={"x": 29}, headers={"Authorization": f"Bearer {token}"})
                for token in (ada, eve)
            ]
        assert [answer.status_code for answer in answers] == [200, 500]
        assert "eve@example.org is not authorized" in answers[1].json()["detail"]
        printed = capsys.readouterr().out
        assert "Test: 29" in printed
        assert "Test: 28" not in printed
