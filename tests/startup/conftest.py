from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.getting_started.conftest import SNIPPETS

__all__ = ["AUTHORIZED"]

AUTHORIZED = "somebody@example.org"


@pytest.fixture(scope="session")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with startup functions: those of the document under its names, and ours."""
    directory = tmp_path_factory.mktemp("startup") / "work"
    shutil.copytree(Path(__file__).with_name("functions"), directory)
    shutil.copy(SNIPPETS / "startup_function.py", directory / "example-startup-function.py")
    context = (SNIPPETS / "user_context.py").read_text().replace('"test-service"', '"context-service"')
    (directory / "package" / "context.py").write_text(f"authorized_users = ['{AUTHORIZED}']\n{context}")
    (directory / "broken.py").write_text("async def f(:\n")
    (directory / "unimportable.py").write_text("import a_module_that_nobody_has\n")
    (directory / ".env").write_text("AUTHORS_VARIABLE=kept\n")
    return directory


@pytest.fixture(scope="session")
def startup_cluster(functions: Path) -> Iterator[RunningCluster]:
    """A cluster with startup functions, started as the document says."""
    running = RunningCluster(
        "--host=0.0.0.0",
        "--startup-functions=./example-startup-function.py:hypha_startup",
        "./example-startup-function2.py:hypha_startup",
        "--startup-functions",
        "package.context:start_service",
        cwd=functions,
    )
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest.fixture
async def http(startup_cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=startup_cluster.url, timeout=20) as client:
        yield client
