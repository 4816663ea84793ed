"""Reads deploy/Dockerfile: its stages, each with its instructions."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["DOCKERFILE", "ROOT", "Instruction", "Stage", "read_stages"]

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"

_FLAG = re.compile(r"--([a-z-]+)(?:=(\S+))?\s+")


@dataclass(frozen=True)
class Instruction:
    """``KEYWORD --flag=value rest``; a flag may occur more than once."""

    keyword: str
    flags: tuple[tuple[str, str], ...]
    rest: str

    @property
    def words(self) -> list[str]:
        """The rest as a list: a JSON list, or words of a shell."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)

    def flag(self, name: str) -> str:
        return dict(self.flags).get(name, "")


@dataclass
class Stage:
    """``FROM base AS name`` and what follows."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, keyword: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.keyword == keyword]

    def last(self, keyword: str) -> Instruction:
        return self.of(keyword)[-1]


def read_stages(path: Path = DOCKERFILE) -> dict[str, Stage]:
    """Return the stages by name, in the order of the file."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in _logical_lines(path.read_text("utf-8")):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, _, name = rest.split()
            stage = stages[name] = Stage(name, base)
        else:
            assert stage is not None, line
            stage.instructions.append(_instruction(keyword, rest.strip()))
    return stages


def _instruction(keyword: str, rest: str) -> Instruction:
    flags = []
    while found := _FLAG.match(rest):
        flags.append((found[1], found[2] or ""))
        rest = rest[found.end() :]
    if keyword == "HEALTHCHECK":
        rest = rest.removeprefix("CMD").strip()
    return Instruction(keyword, tuple(flags), rest)


def _logical_lines(text: str) -> Iterator[str]:
    """Yield instructions, one a line, without comments."""
    joined = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1]
        else:
            yield joined
            joined = ""
