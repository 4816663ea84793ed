from __future__ import annotations

import asyncio

from tests.fixtures.app_worker import app_worker

from .conftest import ConnectUser
from .refused import LEFT_OPEN

pytestmark = LEFT_OPEN


async def test_app_that_is_disabled_while_it_starts(connect_user: ConnectUser) -> None:
    """Whichever comes first: what is disabled does not run, though it was read before (contract 03 §1.14 row 3)."""
    servers = [await connect_user("undecided", gateway=gateway) for gateway in (0, 1)]
    starting, editing = [await server.get_service("public/server-apps") for server in servers]
    async with app_worker(servers[0]) as worker:
        await editing.install(manifest={"name": "wavering", "type": "custom"}, source="x", app_id="wavering")
        for delay_s in (0, 0.01, 0.02, 0.04, 0.08):
            await editing.edit_app("wavering", disabled=True)
            disable = asyncio.ensure_future(editing.commit_app("wavering"))
            await asyncio.sleep(delay_s)
            await asyncio.gather(starting.start("wavering"), disable, return_exceptions=True)
            disable.result()
            assert await starting.list_running() == []
            assert set(worker.stopped) >= set(worker.started) - set(worker.clients)
            assert worker.clients == {}
            await editing.edit_app("wavering", disabled=False)
            await editing.commit_app("wavering")
