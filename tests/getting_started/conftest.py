from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.scripts import Script, StartScript

SNIPPETS = Path(__file__).with_name("snippets")
_ADDRESSES = ("http://localhost:9527", "https://ai.imjoy.io", "https://hypha.aicell.io", "https://my-hypha-server.org")
_WORKSPACE, _SERVICE = "ws-user-scintillating-lawyer-94336986", "YLNzuQvQHVqMAyDzmEpFgF:hello-world"

Snippet = Callable[..., str]


@pytest.fixture
def snippet(cluster: RunningCluster) -> Snippet:
    """Return a program of the getting-started document: word for word, but for the addresses."""

    def snippet(name: str, *, service_id: str = "", token: str = "") -> str:
        code = (SNIPPETS / name).read_text()
        for address in _ADDRESSES:
            code = code.replace(address, cluster.url)
        workspace, _, service = service_id.partition("/")
        replacements = {_WORKSPACE: workspace, _SERVICE: service, "your-token-here": token, "your-token": token}
        for old, new in replacements.items():
            assert new or old not in code
            code = code.replace(old, new or old)
        return code

    return snippet


@dataclass(frozen=True)
class Hello:
    """The document's first server, running."""

    service_id: str
    workspace: str
    script: Script


@pytest.fixture
async def hello(start_script: StartScript, snippet: Snippet) -> Hello:
    script = await start_script(snippet("async_server.py"))
    registered = await script.line(r"Hello world service registered at workspace: (\S+), id: (\S+)$")
    return Hello(service_id=registered[2], workspace=registered[1], script=script)


@pytest.fixture
async def http(cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=10) as client:
        yield client
