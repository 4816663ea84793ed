from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable

import pytest

from tests.fixtures.browser import browser, client_page, page_url
from tests.fixtures.clients import connect
from tests.fixtures.clusters import apps_cluster, cluster, limited_cluster, start_cluster, two_gateways
from tests.fixtures.oidc import oidc_hub, oidc_server, start_oidc_server
from tests.fixtures.people import person
from tests.fixtures.scripts import node_modules, start_script
from tests.fixtures.unharmed import unharmed

__all__ = [
    "apps_cluster",
    "browser",
    "client_page",
    "cluster",
    "connect",
    "limited_cluster",
    "node_modules",
    "oidc_hub",
    "oidc_server",
    "page_url",
    "person",
    "start_cluster",
    "start_oidc_server",
    "start_script",
    "two_gateways",
    "unharmed",
]

_MAX_TEST_S = 120.0  # a client whose server is gone would wait for ever
_MAX_SLOW_TEST_S = 900.0
# With its fixtures, and where a test does not even end when it is cancelled; for the others it is in pyproject.toml.
_MAX_SLOW_ITEM_S = 1500.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.timeout(_MAX_SLOW_ITEM_S))
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            limit_s = _MAX_TEST_S if item.get_closest_marker("slow") is None else _MAX_SLOW_TEST_S
            item.obj = _limited(item.obj, limit_s)


def _limited(test: Callable[..., Awaitable[None]], limit_s: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(*args: object, **kwargs: object) -> None:
        async with asyncio.timeout(limit_s):
            await test(*args, **kwargs)

    return limited
