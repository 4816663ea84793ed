from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.arena import Arena, arena
from tests.chaos.faults import FAULTS
from tests.chaos.ordeal import go_through
from tests.fixtures.link import why_none

_CUTS = [name for name, fault in FAULTS.items() if fault.needs == "wire"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Arena]:
    """A system of which a gateway and a workspace replica are in another place."""
    if reason := why_none():
        pytest.skip(reason)
    async with arena(wire=True) as made:
        yield made


@pytest.mark.parametrize("name", _CUTS)
async def test_processes_that_are_cut_off(place: Arena, name: str) -> None:
    """The rest goes on; when they are reached again, they work within 15 s, and the history is clean."""
    await go_through(place, FAULTS[name])
