from __future__ import annotations

from tests.fixtures.browser import browser, client_page, page_url
from tests.fixtures.clients import connect
from tests.fixtures.clusters import cluster, start_cluster, two_gateways
from tests.fixtures.scripts import node_modules, start_script
from tests.fixtures.unharmed import unharmed

__all__ = [
    "browser",
    "client_page",
    "cluster",
    "connect",
    "node_modules",
    "page_url",
    "start_cluster",
    "start_script",
    "two_gateways",
    "unharmed",
]
