from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.fixtures.scripts import StartScript

from .conftest import Snippet


@pytest.mark.parametrize("probe", ["readiness", "liveness"])
async def test_probes(probe: str, start_script: StartScript, snippet: Snippet, http: httpx.AsyncClient) -> None:
    """The printed address and what Kubernetes runs both answer; the latter fails when the service has gone."""
    script = await start_script("import asyncio\n" + snippet("probes.py"))
    address = (await script.line(r"Test it with the HTTP proxy: (\S+)/readiness$"))[1] + f"/{probe}"
    assert "Probes registered at workspace: ws-user-" in script.output

    answer = await http.get(address)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert await _kubernetes(address) == 0

    await script.kill()
    assert await _kubernetes(address) == 1


async def _kubernetes(address: str) -> int:
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", f"curl -sf {address} || exit 1", stdout=asyncio.subprocess.DEVNULL
    )
    return await process.wait()
