from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import msgpack
from picows import WSFrame

from .peer import Peer

__all__ = ["CallRejectedError", "WireClient", "value_of"]

_HEARTBEAT_S = 15.0

Function = Callable[[list[Any], dict[str, Any]], Any]


class CallRejectedError(Exception):
    pass


class WireClient(Peer):
    """
    The frames a hypha-rpc client sends, without the client.

    A hypha-rpc client spends several milliseconds of CPU time on a connect, a registration or a long list. Where that
    is more than the server needs, only this shows what the server can do.

    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[str, asyncio.Future[bytes]] = {}
        self._functions: dict[str, Function] = {
            "services.built-in.get_service": lambda args, kwargs: self._service(args[0]),
            "services.built-in.ping": lambda args, kwargs: "pong",
        }

    @property
    def manager(self) -> str:
        return f"*/{self.connection_info['manager_id']}"

    async def call(self, method: str, *args: Any, to: str | None = None, limit_s: float = 30) -> bytes:
        """Call a method of the manager or of a peer; the packed extra map of the answer, see ``value_of``."""
        session = secrets.token_hex(8)
        header = {
            "type": "method",
            "from": self.client_id,
            "to": to or self.manager,
            "method": method,
            "session": session,
        }
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[session] = answer
        extra = {"args": list(args), "promise": "*", "t": _HEARTBEAT_S}
        self.send(msgpack.packb(header) + msgpack.packb(extra))
        try:
            async with asyncio.timeout(limit_s):
                return await answer
        finally:
            del self._calls[session]

    async def fetch_manager(self) -> None:
        await self.call("services.built-in.get_service", "default")

    async def register(self, service_id: str, *, type_: str = "generic", visibility: str = "protected") -> None:
        await self.call("services.default.register_service", self._service_info(service_id, type_, visibility))

    def serve(self, service_id: str, name: str, function: Function) -> None:
        self._functions[f"services.{service_id}.{name}"] = function

    async def sign_in(self) -> None:
        """What a hypha-rpc client does between its handshake and its first user call."""
        await self.fetch_manager()
        await self.register("built-in", type_="built-in", visibility="public")
        await self.call("services.default.subscribe", ["client_disconnected"])
        await self.fetch_manager()

    def _on_binary(self, frame: WSFrame) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=0)
        raw = frame.get_payload_as_bytes()
        unpacker.feed(raw)
        header = unpacker.unpack()
        if function := self._functions.get(header.get("method", "")):
            self._answer(function, header, unpacker.unpack())
            return
        session, _, outcome = header.get("method", "").rpartition(".")
        answer = self._calls.get(session)
        if answer is None or answer.done():
            return
        if outcome == "resolve":
            answer.set_result(raw[unpacker.tell() :])
        elif outcome == "reject":
            answer.set_exception(CallRejectedError(str(unpacker.unpack()["args"][0])[:500]))

    def _answer(self, function: Function, header: dict[str, Any], extra: dict[str, Any]) -> None:
        args = extra["args"]
        kwargs = args.pop() if extra.get("with_kwargs") else {}
        session = header["session"]
        reply = {
            "type": "method",
            "from": self.client_id,
            "to": header["from"],
            "method": f"{session}.resolve",
            "parent": session,
        }
        # No heartbeat: a hypha-rpc provider sends none before a function that returns at once.
        self.send(msgpack.packb(reply) + msgpack.packb({"args": [function(args, kwargs)]}))

    def _service(self, service_id: str) -> dict[str, Any]:
        """A service as hypha-rpc hands it out, with the functions it has and an ``echo``."""
        prefix = f"services.{service_id}."
        names = {method.removeprefix(prefix) for method in self._functions if method.startswith(prefix)} | {"echo"}
        config = {"visibility": "public", "workspace": self.workspace, "require_context": False}
        service = {"id": service_id, "name": service_id, "type": "generic", "app_id": "*", "config": config}
        return service | {name: self._method(prefix + name) for name in names}

    def _method(self, path: str) -> dict[str, Any]:
        return {
            "_rtype": "method",
            "_rserver": self.connection_info["public_base_url"],
            "_rtarget": self.address,
            "_rmethod": path,
            "_rpromise": "*",
            "_rname": path.rpartition(".")[2],
            "_rasync": False,
            "_rdoc": None,
        }

    def _service_info(self, service_id: str, type_: str, visibility: str) -> dict[str, Any]:
        schema = {
            "name": "echo",
            "description": "",
            "parameters": {
                "type": "object",
                "properties": {"value": {"type": "string", "description": ""}},
                "required": ["value"],
            },
        }
        config = {
            "workspace": self.workspace,
            "visibility": visibility,
            "require_context": type_ == "built-in",
        }
        return {
            "config": config | ({"api_version": 3} if type_ == "built-in" else {}),
            "id": f"{self.address}:{service_id}",
            "name": service_id,
            "description": None,
            "type": type_,
            "docs": None,
            "app_id": "*",
            "service_schema": {"echo": {"type": "function", "function": schema}},
        }


def value_of(answer: bytes) -> Any:
    return msgpack.unpackb(answer)["args"][0]
