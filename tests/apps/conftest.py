from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster

__all__ = ["ConnectUser", "connect_user"]


class ConnectUser(Protocol):
    """Connect to a gateway of the cluster with apps, as the user ``name`` (default: a new one), or as configured."""

    async def __call__(self, name: str = "", *, gateway: int = 0, **config: Any) -> Any: ...


@pytest.fixture
async def connect_user(apps_cluster: RunningCluster) -> AsyncIterator[ConnectUser]:
    async with AsyncExitStack() as stack:

        async def connect(name: str = "", *, gateway: int = 0, **config: Any) -> Any:
            options = {"server_url": apps_cluster.gateway_urls[gateway], "token": apps_cluster.user_token(name)}
            return await stack.enter_async_context(connect_to_server({**options, **config}))

        yield connect
