from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from hypha_common.options import Option
from hypha_common.settings import OPTIONS, Settings

from .markdown import cell, code, sentence, table

__all__ = ["settings"]

_FIELD = re.compile(r"    (\w+): [^=]+ = option\(")
_HEADING = re.compile(r"    # (.+?)(?: \(contract [^)]*\))?\.$")


def settings() -> str:
    """Every row of the settings table, under the headings that the table has in its source."""
    sections = [f"## {heading}\n\n{_table(rows)}" for heading, rows in _sections()]
    listed = sum(len(rows) for _, rows in _sections())
    if listed != len(OPTIONS):
        raise ValueError(f"{listed} of {len(OPTIONS)} settings are under a heading of Settings")
    return "\n\n".join(sections)


def _sections() -> Iterator[tuple[str, list[Option]]]:
    heading, rows, before = "", list[Option](), ""
    for line in inspect.getsource(Settings).splitlines():
        begins = _HEADING.match(line) if not before.strip() else None  # other comments follow what they explain
        field = _FIELD.match(line)
        if begins:
            if rows:
                yield heading, rows
            heading, rows = begins[1], []
        elif field:
            rows.append(OPTIONS[field[1]])
        before = line
    yield heading, rows


def _table(rows: list[Option]) -> str:
    return table(
        ["setting", "default", "read by", "meaning"],
        [(_names(row), _default(row), _readers(row), cell(_meaning(row))) for row in rows],
    )


def _names(row: Option) -> str:
    """Name, flags, variables, one below the other; pages link to `settings.md#setting-<name>`."""
    flags = [] if row.secret and not row.exposed else row.flags
    return "<br>".join([f"**{code(row.name)}{{#setting-{row.name}}}**", *map(code, (*flags, *row.environment))])


def _default(row: Option) -> str:
    return cell(code(row.written(row.default))) or "–"


def _readers(row: Option) -> str:
    return ", ".join(sorted(row.roles)) or "all"


def _meaning(row: Option) -> str:
    notes = [sentence(row.help).replace("<", "&lt;").replace("*", "\\*")]
    if row.secret or row.address:
        notes.append(f"May stand in a file: `{row.environment[0]}_FILE`.")
    if row.secret:
        notes.append("Secret" + ("." if row.exposed else ", so there is no flag."))
    if row.exposed:
        notes.append("The flag is there for `hypha-server` only.")
    return " ".join(notes)
