from __future__ import annotations

from typing import Any

import pytest
from hypha_rpc import connect_to_server

from hypha.server.data_directory import DataDirectory
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import TokenCodec
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import refused


async def _refused(cluster: RunningCluster, **config: Any) -> str:
    return await refused(cluster.url, workspace="public", client_id="hypha", **config)


@pytest.mark.usefixtures("unharmed")
async def test_nobody_else_gets_the_id(cluster: RunningCluster) -> None:
    """Whether or not startup functions run: nobody may wait there for them."""
    async with connect_to_server({"server_url": cluster.url, "token": cluster.root_token}) as root:
        token = await root.generate_token({"workspace": "public", "permission": "admin"})
    reserved = "Client id hypha is reserved for the startup functions of this server"
    assert reserved in await _refused(cluster, token=token)
    assert reserved in await _refused(cluster)
    secret = DataDirectory(cluster.data_dir).read_secrets().jwt_secret
    scope = Scope(workspaces={"public": Permission.ADMIN}, current_workspace="public")
    operator = TokenCodec(secret).sign(Principal(id="root", roles=("user",), scope=scope), life_s=60)
    assert reserved in await _refused(cluster, token=operator)


async def test_nobody_else_registers_as_it(startup_cluster: RunningCluster) -> None:
    async with connect_to_server({"server_url": startup_cluster.url, "token": startup_cluster.root_token}) as root:
        token = await root.generate_token({"workspace": "public", "permission": "admin"})
    config = {"server_url": startup_cluster.url, "workspace": "public", "token": token}
    async with connect_to_server(config) as client:
        manager = await client.rpc.get_manager_service({"case_conversion": "snake"})
        with pytest.raises(Exception, match="Cannot register services of other clients"):
            await manager.register_service({"id": "public/hypha:theirs", "config": {}})
