from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from hypha_apps.keeping.autoscaling import EVERY_S
from hypha_apps.standing import Standing
from hypha_common.principal import Principal
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser
from .kept_cluster import database_of, until

pytestmark = pytest.mark.slow

_CONFIG = {
    "enabled": True,
    "min_instances": 1,
    "max_instances": 2,
    "target_requests_per_instance": 60,
    "scale_up_threshold": 0.5,
    "scale_down_threshold": 0.1,
    "scale_up_cooldown": 0,
    "scale_down_cooldown": 0,
}


async def test_an_app_grows_and_shrinks_with_what_it_has_to_do(
    apps_cluster: RunningCluster, connect_user: ConnectUser
) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    workspace = server.config.workspace

    async def running(number: int) -> list[dict[str, Any]] | None:
        sessions = await apps.list_running()
        return list(sessions) if len(sessions) == number else None

    async with database_of(apps_cluster) as database, app_worker(server) as worker:
        standing = Standing(database)

        async def scale(**changes: float) -> None:
            starter = Principal(id=server.config.user["id"])
            await standing.set_autoscaling(workspace, "busy", {**_CONFIG, **changes}, starter)

        await create_app(server, "busy", autoscaling=_CONFIG)
        await scale()
        await asyncio.sleep(EVERY_S)
        assert worker.started == [], "nobody has started it"

        first = await apps.start("busy")
        greeter = await server.get_service(first["service_id"])
        for _ in range(100):
            await greeter.hello("Ada")
        two = await until(lambda: running(2), within_s=60)
        assert {session["id"] for session in two} == set(worker.started)
        assert Counter(session["worker_id"] for session in two) == {first["worker_id"]: 2}

        # One is lost; without load it is replaced because there have to be two.
        await scale(min_instances=2, target_requests_per_instance=1e6)
        lost = worker.started[1]
        await worker.clients[lost].disconnect()
        await until(lambda: running(1), within_s=30)
        await until(lambda: running(2), within_s=60)
        assert len(worker.started) == 3

        # There need not be two any more.
        await scale(target_requests_per_instance=1e6)
        (last,) = await until(lambda: running(1), within_s=60) or []
        assert last["id"] == first["id"], "the one that has more to do is left"
        assert (await apps.get_session_info(worker.started[2]))["reason"] == "scaled down"

        # Stopped by hand it stays so.
        await apps.stop(last["id"])
        await asyncio.sleep(2 * EVERY_S)
        assert len(worker.started) == 3
        await standing.clear(workspace, "busy")
