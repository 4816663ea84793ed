from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import AsyncExitStack, suppress
from typing import Any
from weakref import WeakValueDictionary

import structlog

from hypha_common.errors import InternalError, Unavailable

__all__ = ["MAX_TEMPLATE_BYTES", "Rendering", "rendering_failed"]

log = structlog.get_logger(__name__)

MAX_TEMPLATE_BYTES = 2**20

_PROGRAM = "hypha_artifacts.views.renderer"
_ENVIRONMENT = ("LANG", "LD_LIBRARY_PATH", "PATH", "TZ")  # nothing else of ours, secrets least of all
_MAX_AT_ONCE = 4
_MAX_OF_ONE = 2  # owner
_WAIT_S = 4.0
_TIME_LIMIT_S = 8.0  # the program's own limit is shorter
_STOP_S = 2.0
_MAX_ANSWER_BYTES = 9 * 2**20
_PAGE = b"\0"


def rendering_failed(why: str) -> InternalError:
    """Return the error for a template that does not become a page (contract 02 §3.5)."""
    return InternalError(f"Template rendering failed: {why}")


class Rendering:
    """
    Renders templates in a program of their own, which is started for the first one: :mod:`.renderer`.

    Whatever a template does, it ends there after some seconds.

    """

    def __init__(self) -> None:
        self._gate = asyncio.Semaphore(_MAX_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._starting = asyncio.Lock()
        self._program: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None

    async def render(self, source: str, variables: dict[str, Any], *, owner: str = "") -> bytes:
        """
        Return a page in UTF-8. Raises InternalError where the template does not become one, Unavailable.

        Templates of one ``owner`` wait for each other before others wait for them.

        """
        request = json.dumps({"source": source, "variables": variables}).encode()
        async with AsyncExitStack() as turns:
            try:
                async with asyncio.timeout(_WAIT_S):
                    await turns.enter_async_context(self._turn_of(owner))
                    await turns.enter_async_context(self._gate)
            except TimeoutError:
                raise Unavailable("Too many templates are being rendered; try again soon") from None
            answer = await self._answer(request)
        if not answer:
            raise rendering_failed("it takes too long, or needs too much memory")
        if answer[:1] != _PAGE:
            raise rendering_failed(answer[1:].decode(errors="replace"))
        return answer[1:]

    async def close(self) -> None:
        """Stop the program."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._program is not None:
            try:
                async with asyncio.timeout(_STOP_S):
                    await self._program.wait()
            except TimeoutError:
                self._program.kill()
                await self._program.wait()
            self._program = None

    def _turn_of(self, owner: str) -> asyncio.Semaphore:
        """Return what the templates of one owner pass; it is forgotten when none of them does."""
        turn = self._turns.get(owner)
        if turn is None:
            turn = self._turns[owner] = asyncio.Semaphore(_MAX_OF_ONE)
        return turn

    async def _answer(self, request: bytes) -> bytes:
        """Return what the program says to a request; nothing: it ended before."""
        try:
            async with asyncio.timeout(_TIME_LIMIT_S):
                return await self._ask(await self._running(), request)
        except TimeoutError:
            return b""
        except OSError as error:
            raise Unavailable(f"Templates cannot be rendered now: {error.strerror}") from error

    async def _ask(self, control: socket.socket, request: bytes) -> bytes:
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(control, [b"\0"], [theirs.fileno()])
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
        try:
            writer.write(request)
            writer.write_eof()
            answer = bytearray()
            with suppress(ConnectionError):  # it ended before it had read all
                while piece := await reader.read(2**20):
                    answer += piece
                    if len(answer) > _MAX_ANSWER_BYTES:
                        raise rendering_failed("the page is too large")
            return bytes(answer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _running(self) -> socket.socket:
        """Return the socket of the program, which runs. Raises OSError where it cannot be started."""
        async with self._starting:
            if self._program is not None and self._program.returncode is not None:
                log.warning("renderer_ended", status=self._program.returncode)
                await self.close()
            if self._control is None:
                ours, theirs = socket.socketpair()
                with theirs:
                    self._program = await asyncio.create_subprocess_exec(
                        sys.executable, "-I", "-m", _PROGRAM, str(theirs.fileno()), pass_fds=(theirs.fileno(),),
                        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, cwd="/",
                    )  # fmt: skip
                self._control = ours
            return self._control
