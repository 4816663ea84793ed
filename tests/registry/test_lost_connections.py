from __future__ import annotations

import asyncio
import threading

import asyncpg

from hypha_common.db import Database
from hypha_common.errors import Unavailable
from tests.fixtures.postgres import PostgresServer

_END = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'ended'"


async def test_a_connection_that_was_just_ended(postgres: PostgresServer) -> None:
    """Whoever gets it before its end has been read is told that the database is not available, at any moment."""
    url = postgres.create()
    database = Database(url, application="ended", pool_size=1)
    await database.connect()
    told = []

    async def ask(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        try:
            await database.ping()
        except Unavailable as error:
            told.append(str(error))

    async def end() -> None:
        other = await asyncpg.connect(url)
        await other.execute(_END)
        await other.close()

    try:
        for turns in range(8):
            await database.ping()
            ending = threading.Thread(target=lambda: asyncio.run(end()))
            ending.start()
            ending.join()  # the loop stands still: it reads all of the end afterwards
            await ask(turns)
            await ask(20)
    finally:
        await database.close()
    assert any("InternalClientError" in text for text in told), told
