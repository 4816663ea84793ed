from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hypha_browser_worker.worker import BrowserWorker
from tests.apps.conftest import ConnectUser, connect_user

from .hub import Hub, browser_worker, hub

__all__ = ["ConnectUser", "connect_user"]


@pytest.fixture
async def served() -> AsyncIterator[Hub]:
    """As much of a hub as pages of apps need."""
    async with hub() as running:
        yield running


@pytest.fixture
async def worker(served: Hub) -> AsyncIterator[BrowserWorker]:
    """A browser worker for that hub."""
    async with browser_worker(served) as running:
        yield running
