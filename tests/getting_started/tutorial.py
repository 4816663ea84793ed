"""
Pages of docs/tutorial as programs: what a reader types, in that order, and what they are told to see.

A block after "Save this as `name`" is a file; a bash block is typed into a shell that stays; a text block after it is
what is printed there.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Shell", "Step", "steps"]

_TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorial"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SAVED = re.compile(r"[Ss]ave this as `([\w.]+)`[^`]*(?:`\w+`[^`]*)*\Z")
_ACTIVATE = ". .venv/bin/activate\n"
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Step:
    """A block of the page."""

    language: str
    code: str
    file: str  # where it is saved, if it is


def steps(page: str, replaced: Mapping[str, str]) -> list[Step]:
    """
    The blocks of a tutorial with some texts replaced: the server's address, whom the token is for.

    The start of the server, with what it prints, is left out, and so is the environment's activation.

    """
    text = (_TUTORIALS / f"{page}.md").read_text()
    found = []
    end = 0
    for block in _BLOCK.finditer(text):
        saved = _SAVED.search(text[end : block.start()])
        language, code, end = block[1], block[2].replace(_ACTIVATE, ""), block.end()
        for old, new in replaced.items():
            code = code.replace(old, new)
        if code.strip() and not code.startswith("scripts/serve") and "is ready at" not in code:
            found.append(Step(language, code, saved[1] if saved else ""))
    return found


class Shell:
    """A terminal of a reader, in a folder of their own, with the programs of the environment at hand."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._typed = 0

    @classmethod
    async def open(cls, folder: Path, **environ: str) -> Shell:
        (folder / ".curlrc").write_text("silent\n")  # as at a terminal, where it shows answers and no progress
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")}
        process = await asyncio.create_subprocess_exec(
            "bash", cwd=folder, env={**own, "PATH": programs, "HOME": str(folder), **environ}, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return cls(process, folder)

    def save(self, step: Step) -> None:
        (self._folder / step.file).write_text(step.code)

    async def type(self, code: str) -> str:
        """Type lines and return what they print. Raises AssertionError where the last of them fails."""
        self._typed += 1
        end = f"-- typed {self._typed}: "
        self._send(f"{code}\nprintf '\\n{end}%d\\n' $?\n")
        lines: list[str] = []
        async with asyncio.timeout(_TIMEOUT_S):
            while not (line := await self._line()).startswith(end):
                lines.append(line)
        printed = "\n".join(lines).strip()
        assert line == f"{end}0", f"{code}\n{printed}"
        return printed

    async def leave_running(self, code: str) -> str:
        """Type a command that does not end, and return the first line that it prints."""
        self._send(code)
        async with asyncio.timeout(_TIMEOUT_S):
            return await self._line()

    async def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.communicate()

    def _send(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the shell has ended"
        return line.decode().rstrip("\n")
