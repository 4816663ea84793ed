from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import hypha_auth.migrate
import hypha_workspace.migrate
from hypha.server.child import Program
from hypha.server.data_directory import DataDirectory
from hypha.server.nats_server import USER, NatsServer
from hypha.server.postgres import PostgresServer
from hypha_common.settings import Settings
from tests.manager.rig import Gateway, Workspaces


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """PostgreSQL and NATS of an embedded cluster, with the schema; the settings of a service that uses them."""
    data = DataDirectory(tmp_path_factory.mktemp("cluster"))
    secrets = data.open()
    nats = NatsServer(data, secrets.nats_password)
    postgres = PostgresServer(data, secrets.postgres_password, user=Settings().postgres_user, connections=60)
    postgres.prepare()
    with running(nats.program(), nats.url), running(postgres.program(), postgres.url):
        settings = Settings.load(
            {
                "nats_url": nats.url,
                "nats_user": USER,
                "nats_password": secrets.nats_password,
                "database_url": postgres.url,
                "jwt_secret": secrets.jwt_secret,
                "public_base_url": "http://hub.example",
                "max_services_per_client": 30,
                "max_workspaces_per_user": 5,
            },
            environ={},
        )
        hypha_workspace.migrate.migrate(settings)
        hypha_auth.migrate.migrate(settings)
        yield settings
    postgres.close()
    data.close()


@contextmanager
def running(program: Program, url: str) -> Iterator[None]:
    """Run a child process until the end of the block; it has come up when its port takes connections."""
    identity = {} if program.user is None else {"user": program.user[0], "group": program.user[1], "extra_groups": []}
    assert program.log_file is not None
    with Path(program.log_file).open("ab") as log:
        process = subprocess.Popen(
            list(program.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=None if program.environment is None else dict(program.environment),
            pass_fds=tuple(program.pass_fds),
            **identity,
        )
    try:
        _wait_for_port(url, process)
        yield
    finally:
        process.send_signal(program.stop_signal)
        process.wait(timeout=20)


def _wait_for_port(url: str, process: subprocess.Popen[bytes]) -> None:
    parts = urlsplit(url)
    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None, f"{process.args} ended"
        try:
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            break


@pytest.fixture
async def workspaces(stack: Settings) -> AsyncIterator[Workspaces]:
    service = Workspaces(stack)
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def gateway(stack: Settings, workspaces: Workspaces) -> AsyncIterator[Gateway]:
    gateway = Gateway(stack, workspaces.stores)
    await gateway.start()
    yield gateway
    await gateway.stop()
