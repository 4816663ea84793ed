from __future__ import annotations

import pytest

from hypha_common.db import Database, driver_url
from hypha_common.errors import Unavailable
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of


def test_driver_url() -> None:
    assert driver_url("postgresql+asyncpg://u@h/d?a=b") == "postgresql://u@h/d?a=b"
    assert driver_url("postgres://u@h/d") == "postgres://u@h/d"


async def test_one_database_by_default() -> None:
    settings = Settings.load({"database_url": "postgresql://nobody@127.0.0.1:1/a"}, environ={})
    database = Database.from_settings(settings, "tests")
    assert database.all() == [database.home]
    assert database.for_workspace("ws-a") is database.home


async def test_partitions() -> None:
    a, b = "postgresql://nobody@127.0.0.1:1/a", "postgresql://nobody@127.0.0.1:1/b"
    settings = Settings.load({"database_url": a, "database_partitions": f"0-15={b},16-47={a},48-63={b}"}, environ={})
    database = Database.from_settings(settings, "tests")
    assert [shard.url for shard in database.all()] == [b, a]
    assert database.home.url == a
    for name in ("public", "ws-user-alice", "ws-b"):
        assert database.for_workspace(name) is database.for_partition(partition_of(name))
    for partition, url in ((0, b), (15, b), (16, a), (47, a), (48, b), (63, b)):
        assert database.for_partition(partition).url == url


async def test_absent_server_is_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/a", application="tests")
    await database.connect()
    with pytest.raises(Unavailable):
        await database.ping()
    with pytest.raises(Unavailable):
        async with database.home.transaction():
            pass
    await database.close()
