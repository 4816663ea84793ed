"""What a replica tells of apps, on a real database."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from hypha_apps.keeping.counts import Counts
from hypha_apps.metrics import kind_of
from hypha_common.db import Database, Shard

from .session_rows import WORKSPACE, add_session


async def test_sessions_and_waiting_daemons_are_counted(shard: Shard) -> None:
    for status in ("running", "running", "starting", "failed"):
        await add_session(shard, status=status)
    for app in ("app", "always", "later"):
        await shard.execute("INSERT INTO app_daemons (workspace, app_id) VALUES ($1, $2)", WORKSPACE, app)
    await shard.execute("UPDATE app_daemons SET held = true WHERE app_id = 'later'")
    database = Database(shard.url, application="test")
    await database.connect()
    await Counts(database).count()
    await database.close()
    counted = {
        status: REGISTRY.get_sample_value("hypha_apps_sessions", {"status": status})
        for status in ("starting", "running", "stopping", "stopped", "failed")
    }
    assert counted == {"starting": 1, "running": 2, "stopping": 0, "stopped": 0, "failed": 1}
    assert REGISTRY.get_sample_value("hypha_apps_daemons_waiting") == 1  # `app` runs, `later` was stopped by hand


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("inactive for 600 s", "inactive"),
        ("stopped by user-1", "user"),
        ("scaled down", "scaled"),
        ("its worker ws/w:s is gone", "lost"),
        ("its client disconnected", "lost"),
        ("workspace ws was deleted", "workspace"),
        ("the app is disabled", "app"),
        ("", "other"),
    ],
)
def test_of_why_one_ended_only_the_kind_is_counted(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind
