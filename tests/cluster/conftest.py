from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.running_cluster import RunningCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """One gateway, one replica of each service; for tests that leave it as it was."""
    running = RunningCluster()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def two_gateways() -> Iterator[RunningCluster]:
    """Two gateways and two replicas of each service; for tests that leave it as it was."""
    running = RunningCluster("--gateways=2", "--workspace-replicas=2", "--auth-replicas=2")
    yield running
    running.stop()


@pytest.fixture
def start_cluster() -> Iterator[Callable[..., RunningCluster]]:
    """Start a cluster of one's own, with flags and environment; for tests that kill, restart or limit."""
    running: list[RunningCluster] = []

    def start(*flags: str, **options: object) -> RunningCluster:
        running.append(RunningCluster(*flags, **options))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for one in running:
        one.stop()
