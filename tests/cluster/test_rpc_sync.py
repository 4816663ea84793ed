from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypha_rpc.sync import connect_to_server

from tests.cluster.running_cluster import RunningCluster


@pytest.fixture
def connect(cluster: RunningCluster) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:
        yield lambda **config: stack.enter_context(connect_to_server({"server_url": cluster.url, **config}))


def test_services(connect: Callable[..., Any]) -> None:
    """Plain functions on both sides, with arrays, callbacks, failures and large values."""

    def fail() -> None:
        raise ValueError("bad thing")

    provider = connect()
    registered = provider.register_service(
        {
            "id": "s",
            "config": {"visibility": "public"},
            "echo": lambda value: value,
            "call": lambda function, x: function(x),
            "nested": {"increment": lambda x: x + 1},
            "fail": fail,
        }
    )
    service = connect().get_service(registered.id)
    assert service.echo({"a": [1, None]}) == {"a": [1, None]}
    assert service.nested.increment(1) == 2
    np.testing.assert_array_equal(service.echo(np.arange(4).reshape(2, 2)), [[0, 1], [2, 3]])
    assert service.call(lambda x: x * 2, 21) == 42
    assert len(service.echo(bytes(3 * 2**20))) == 3 * 2**20
    with pytest.raises(Exception, match="ValueError: bad thing"):
        service.fail()


def test_manager(cluster: RunningCluster, connect: Callable[..., Any]) -> None:
    server = connect(token=cluster.user_token())
    server.set_env("A", 1)
    assert server.get_env() == {"A": 1}
    token = server.generate_token()
    second = connect(token=token, workspace=server.config.workspace, client_id="second")
    assert second.get_env("A") == 1
    assert f"{server.config.workspace}/second" in [client["id"] for client in server.list_clients()]
    assert server.ping("second") == "pong"
    second.disconnect()
    assert server.ping("second").startswith("Failed to ping client")
    with pytest.raises(Exception, match="Service not found"):
        server.get_service("nothing")
