from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.arena import arena
from tests.chaos.faults import FAULTS
from tests.chaos.ordeal import RECOVERY_S, ordeal
from tests.chaos.report import END, START, Row, write_table

_TELLING = ("kill-workspace", "kill-gateway", "kill-nats", "s3-errors")
_REST = [name for name, fault in FAULTS.items() if name not in _TELLING and not fault.needs]


async def test_the_most_telling_faults() -> None:
    """One cluster, one fault after another: it recovers each time, and the history is clean at the end."""
    async with arena() as place, ordeal(place) as trial:
        for name in _TELLING:
            row = await trial.suffer(FAULTS[name])
            print(row)
            assert row.violations == 0, trial.violations


@pytest.mark.slow
@pytest.mark.parametrize("name", _REST)
async def test_each_other_fault(name: str) -> None:
    async with arena() as place, ordeal(place) as trial:
        row = await trial.suffer(FAULTS[name])
        print(row)
        assert row.violations == 0, trial.violations
        assert row.recovery_s <= RECOVERY_S


def test_a_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
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
