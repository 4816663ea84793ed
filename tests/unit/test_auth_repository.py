from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hypha_auth.migrate import is_current, migrate
from hypha_auth.repository import LoginSessions, RevokedTokenRows
from hypha_common.db import Database
from hypha_common.settings import Settings
from tests.fixtures.auth import auth_database, auth_settings, nats_url, postgres

__all__ = ["auth_database", "auth_settings", "nats_url", "postgres"]


async def test_migrate_again_and_at_once(auth_settings: Settings) -> None:
    """Migrating is safe to run twice, and by several processes at the same time."""
    with ThreadPoolExecutor(3) as pool:
        await asyncio.gather(*(asyncio.to_thread(pool.submit(migrate, auth_settings).result) for _ in range(3)))
    assert await is_current(auth_settings.database_url)


async def test_is_current_of_an_empty_database(auth_settings: Settings, auth_database: Database) -> None:
    await auth_database.home.execute("CREATE DATABASE fresh")
    url = auth_settings.database_url.rpartition("/")[0] + "/fresh"
    assert not await is_current(url)
    await asyncio.to_thread(migrate, auth_settings.replace(database_url=url))
    assert await is_current(url)


async def test_revoked_rows(auth_database: Database) -> None:
    """Doing it twice keeps the later end; what has expired is gone."""
    rows, now = RevokedTokenRows(auth_database.home), time.time()
    await rows.add("a", now + 60, "alice")
    await rows.add("a", now + 30, "bob")
    await rows.add("b", now + 90.5, "alice")
    await rows.add("old", now - 1, "alice")
    assert await rows.page("", 10) == [("a", pytest.approx(now + 60)), ("b", pytest.approx(now + 90.5))]
    assert [token for token, _ in await rows.page("a", 10)] == ["b"]
    assert [token for token, _ in await rows.page("", 1)] == ["a"]
    assert await rows.delete_expired() == 1


async def test_session(auth_database: Database) -> None:
    """A session is completed once and taken once."""
    sessions = LoginSessions(auth_database.home)
    await sessions.create("k", workspace="ws-a", expires_in=60, life_s=5)
    waiting = await sessions.get("k")
    assert waiting is not None
    assert (waiting.workspace, waiting.expires_in, waiting.token) == ("ws-a", 60, None)
    assert await sessions.take("k") is None
    assert await sessions.complete("k", "t", {"email": None})
    assert not await sessions.complete("k", "other", {})
    taken = await asyncio.gather(*(sessions.take("k") for _ in range(5)))
    assert [session.token for session in taken if session] == ["t"]
    assert await sessions.get("k") is None


async def test_session_ends(auth_database: Database) -> None:
    """After its time a session is neither seen, completed nor kept."""
    sessions = LoginSessions(auth_database.home)
    await sessions.create("k", workspace=None, expires_in=None, life_s=0.05)
    await asyncio.sleep(0.1)
    assert await sessions.get("k") is None
    assert not await sessions.complete("k", "t", {})
    assert await sessions.delete_expired() == 1
