from __future__ import annotations

from collections.abc import Callable

import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster

from .kept_cluster import until

pytestmark = pytest.mark.browser

_SOURCE = """
<config lang="json">{"name": "Idle", "type": "web-worker", "version": "0.1.0"}</config>
<script lang="javascript">api.export({ping() { return "pong"; }});</script>
"""


async def test_an_app_in_a_browser_that_nobody_uses_stops(start_cluster: Callable[..., RunningCluster]) -> None:
    """What its connection does to stay open is no use of it; the next look-up starts it again."""
    cluster = start_cluster("--enable-server-apps", environ={"ACTIVITY_CHECK_INTERVAL": "0.5"}, storage=True)
    async with connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server:
        apps = await server.get_service("public/server-apps")
        await apps.install(source=_SOURCE, app_id="idle", stop_after_inactive=5)
        session = await apps.start("idle")
        service = await server.get_service(session["service_id"])
        assert await service.ping() == "pong"

        async def stopped() -> bool:
            return bool((await apps.get_session_info(session["id"]))["status"] == "stopped")

        await until(stopped, within_s=40)
        assert (await apps.get_session_info(session["id"]))["reason"] == "inactive for 5 s"
        again = await server.get_service("default@idle")
        assert await again.ping() == "pong"
    assert cluster.errors() == []
