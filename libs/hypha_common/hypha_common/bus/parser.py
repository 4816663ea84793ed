from __future__ import annotations

from typing import Any

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

__all__ = ["FrameParser"]

_LINE_BYTES = 8192


class FrameParser(Parser):
    """
    nats-py's parser with a short way for ``MSG``: no regular expression, and a large payload is copied once.

    Everything else, and a control line that is cut, is left to nats-py's parser.

    """

    def reset(self) -> None:
        super().reset()
        self._parts: list[bytes | memoryview] = []  # of the payload that is being collected, with its line end
        self._missing = 0
        self._message: tuple[int, bytes, bytes] = (0, b"", b"")  # sid, subject, reply

    async def parse(self, data: bytes = b"") -> None:
        at = 0
        if self._missing:
            at = await self._collect(data)
        while at < len(data):
            if self.buf or self.state != AWAITING_CONTROL_LINE or not data.startswith(b"MSG ", at):
                at = await self._by_nats(data, at)
                continue
            end = data.find(b"\r\n", at, at + _LINE_BYTES)
            if end < 0:
                await super().parse(data[at:])
                return
            fields = data[at + 4 : end].split(b" ")
            sid, size, start = int(fields[1]), int(fields[-1]), end + 2
            reply = fields[2] if len(fields) == 4 else b""
            at = start + size + 2
            if at <= len(data):
                await self._process(sid, fields[0], reply, data[start : start + size])
            else:
                self._message = (sid, fields[0], reply)
                self._missing = at - len(data)
                self._parts = [memoryview(data)[start:]]

    async def _by_nats(self, data: bytes, at: int) -> int:
        """Give one control line (or the rest of what nats-py's parser began) to it; return where it ended."""
        if self.buf or self.state != AWAITING_CONTROL_LINE:
            await super().parse(data[at:])
            return len(data)
        end = data.find(b"\r\n", at)
        if end < 0 or data.startswith(b"HMSG", at):
            await super().parse(data[at:])
            return len(data)
        await super().parse(data[at : end + 2])
        return end + 2

    async def _collect(self, data: bytes) -> int:
        """Add to the payload that is being collected; return where it ended in ``data``."""
        taken = min(len(data), self._missing)
        self._parts.append(data if taken == len(data) else memoryview(data)[:taken])
        self._missing -= taken
        if not self._missing:
            # Without the line end, so that the payload is joined once and not sliced again.
            last = self._parts.pop()
            if len(last) < 2:
                self._parts[-1] = memoryview(self._parts[-1])[: -(2 - len(last))]
            else:
                self._parts.append(memoryview(last)[:-2])
            payload, self._parts = b"".join(self._parts), []
            await self._process(*self._message, payload)
        return taken

    async def _process(self, sid: int, subject: bytes, reply: bytes, payload: bytes) -> None:
        client: Any = self.nc
        await client._process_msg(sid, subject, reply, payload, None)
