from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.arena import Arena, arena
from tests.chaos.faults import FAULTS
from tests.chaos.ordeal import go_through
from tests.chaos.report import END, START, Row, write_table

_TELLING = ("kill-workspace", "kill-gateway", "kill-nats", "s3-errors")
_REST = [name for name, fault in FAULTS.items() if name not in _TELLING and not fault.needs]
_ON_THREE = [name for name, fault in FAULTS.items() if fault.needs == "three_nats"]
_MEMBERS = 4

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Arena]:
    """One system for fault after fault; each test finds that it is whole again."""
    async with arena() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place_on_three() -> AsyncIterator[Arena]:
    async with arena(three_nats=True) as made:
        yield made


@pytest.mark.parametrize("name", _TELLING)
async def test_the_most_telling_faults(place: Arena, name: str) -> None:
    """It recovers in time, and the history is clean."""
    await go_through(place, FAULTS[name], members=_MEMBERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", _REST)
async def test_each_other_fault(place: Arena, name: str) -> None:
    await go_through(place, FAULTS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", _ON_THREE)
async def test_faults_of_three_nats_servers(place_on_three: Arena, name: str) -> None:
    await go_through(place_on_three, FAULTS[name], members=_MEMBERS)


async def test_a_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{START}\nstale\n{END}\n\nend\n")
    row = Row("kill-x", "SIGKILL", 1.25, 100, 3, 2, 0, 1.5, 0)
    write_table(page, [row], "how")
    write_table(page, [row], "how")
    text = page.read_text()
    assert text.startswith(f"# Title\n\n{START}\n\nhow\n")
    assert text.endswith(f"{END}\n\nend\n")
    assert text.count("| `kill-x` | SIGKILL | 1.2 | 100 | 3 | 2 | 0 | 1.5 | 0 |") == 1
    assert "stale" not in text
