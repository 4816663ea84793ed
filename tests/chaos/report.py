from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["END", "START", "Row", "table", "write_table"]

START = "<!-- chaos table: made by `scripts/chaos --report`, do not edit -->"
END = "<!-- end of chaos table -->"
_HEAD = (
    "| fault | what was done | recovered in s | calls | failed: surely not run | failed: perhaps run "
    "| ran after the failure was told | longest call s | violations |\n|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """What one fault did to a system under load."""

    name: str
    what: str
    recovery_s: float
    calls: int
    definite: int
    ambiguous: int
    ran_late: int
    longest_s: float
    violations: int

    def __str__(self) -> str:
        figures = (self.calls, self.definite, self.ambiguous, self.ran_late, f"{self.longest_s:.1f}", self.violations)
        cells = (f"`{self.name}`", self.what, f"{self.recovery_s:.1f}", *map(str, figures))
        return f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row], how: str) -> str:
    """Return rows as Markdown between the marks; ``how`` says how they were measured."""
    return "\n".join((START, "", how, "", _HEAD, *map(str, rows), "", END))


def write_table(path: Path, rows: Sequence[Row], how: str) -> None:
    """Put the table in the place of the one that a page has, or make a file of it."""
    made = table(rows, how)
    text = path.read_text() if path.exists() else ""
    if START in text and END in text:
        before, _, rest = text.partition(START)
        _, _, after = rest.partition(END)
        path.write_text(f"{before}{made}{after}")
    else:
        path.write_text(f"{made}\n")
