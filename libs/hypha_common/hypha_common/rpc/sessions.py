from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Callable
from typing import Any

import structlog

from hypha_common.errors import PermissionDenied, QuotaExceeded

from .functions import RemoteFunction
from .remote import MethodNotFound
from .values import STOP_ITERATION

__all__ = ["Exporter", "Sessions", "new_session_id"]

log = structlog.get_logger()


def new_session_id(prefix: str = "") -> str:
    """Return an id that nobody can guess, without dots."""
    return prefix + secrets.token_urlsafe(12)


class _Session:
    """Functions of ours that one client may call, until the session ends."""

    __slots__ = ("ends_by_age", "generators", "objects", "target", "touched")

    def __init__(self, target: str, *, ends_by_age: bool, touched: float) -> None:
        self.target = target
        self.objects: dict[str, Callable[..., Any]] = {}
        self.generators: dict[str, Any] = {}
        self.ends_by_age = ends_by_age  # False: it belongs to a call of ours and ends with it
        self.touched = touched


class Sessions:
    """
    The callbacks and generators this peer has handed out.

    Those in the arguments of a call end with the call, those in an answer after ``max_age_s`` without use.

    """

    def __init__(self, *, now: Callable[[], float], per_target: int = 1024, max_age_s: float = 600.0) -> None:
        self._now = now
        self._per_target = per_target
        self._max_age_s = max_age_s
        self._sessions: dict[str, _Session] = {}
        self._counts: dict[str, int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._sessions)

    def put(self, session_id: str, target: str, name: str, function: Callable[..., Any], *, ends_by_age: bool) -> None:
        """Keep ``function`` for ``target``; the session is made with its first function."""
        session = self._sessions.get(session_id)
        if session is None:
            if self._counts.get(target, 0) >= self._per_target:
                raise QuotaExceeded(f"Too many callbacks and generators are open for {target}")
            session = _Session(target, ends_by_age=ends_by_age, touched=self._now())
            self._sessions[session_id] = session
            self._counts[target] = self._counts.get(target, 0) + 1
        session.objects[name] = function

    def put_generator(self, session_id: str, target: str, name: str, generator: Any, *, ends_by_age: bool) -> str:
        """Keep ``generator`` and return the name of the method that closes it."""
        close_name = f"{name}:close"

        def close() -> bool:
            self._end_generator(session_id, name, close_now=True)
            return True

        self.put(session_id, target, name, self._next_of(session_id, name, generator), ends_by_age=ends_by_age)
        self.put(session_id, target, close_name, close, ends_by_age=ends_by_age)
        self._sessions[session_id].generators[name] = generator
        return close_name

    def find(self, session_id: str, name: str, *, caller: str, shown: str) -> Callable[..., Any]:
        """Return a function for its client. Raises MethodNotFound, PermissionDenied."""
        session = self._sessions.get(session_id)
        function = session.objects.get(name) if session is not None else None
        if session is None or function is None:
            raise MethodNotFound(shown)
        if session.target != caller:
            raise PermissionDenied(f"Access denied for method call ({shown}) from {caller}")
        session.touched = self._now()
        return function

    def touch(self, session_id: str, caller: str) -> bool:
        """Prolong a session of ``caller``; False where there is none."""
        session = self._sessions.get(session_id)
        if session is None or session.target != caller:
            return False
        session.touched = self._now()
        return True

    def release(self, session_id: str) -> None:
        """End a session and close its generators."""
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        left = self._counts[session.target] - 1
        if left:
            self._counts[session.target] = left
        else:
            del self._counts[session.target]
        for generator in session.generators.values():
            self._close(generator)

    def sweep(self) -> None:
        """End the sessions that have not been used for too long."""
        oldest = self._now() - self._max_age_s
        for session_id in [i for i, s in self._sessions.items() if s.ends_by_age and s.touched < oldest]:
            self.release(session_id)

    async def close(self) -> None:
        """End every session."""
        for session_id in list(self._sessions):
            self.release(session_id)
        if self._closing:
            await asyncio.wait(self._closing)

    def _next_of(self, session_id: str, name: str, generator: Any) -> Callable[[], Any]:
        async def next_async() -> Any:
            try:
                return await generator.__anext__()
            except StopAsyncIteration:
                self._end_generator(session_id, name)
                return STOP_ITERATION

        def next_sync() -> Any:
            try:
                return next(generator)
            except StopIteration:
                self._end_generator(session_id, name)
                return STOP_ITERATION

        return next_async if hasattr(generator, "__anext__") else next_sync

    def _end_generator(self, session_id: str, name: str, *, close_now: bool = False) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            return
        generator = session.generators.pop(name, None)
        session.objects.pop(name, None)
        session.objects.pop(f"{name}:close", None)
        if close_now and generator is not None:
            self._close(generator)
        if not session.objects and session.ends_by_age:
            self.release(session_id)

    def _close(self, generator: Any) -> None:
        close = getattr(generator, "aclose", None) or getattr(generator, "close", None)
        if close is not None:
            task = asyncio.get_running_loop().create_task(_closed(close))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _closed(close: Callable[[], Any]) -> None:
    try:
        result = close()
        if inspect.isawaitable(result):
            await result
    except RuntimeError:
        pass  # it is just running: its own call ends it
    except Exception as error:  # the outer edge of a generator: nobody waits for its end
        log.error("rpc_generator_close_failed", exc_info=error)


class Exporter:
    """Gives functions and generators of one call or answer their wire form, and keeps them in a session."""

    __slots__ = ("_ends_by_age", "_me", "_prefix", "_server", "_session_id", "_sessions", "_target")

    def __init__(
        self, sessions: Sessions, *, session_id: str | None, prefix: str, target: str, me: str, server_base_url: str
    ) -> None:
        self._sessions = sessions
        self._session_id = session_id
        self._ends_by_age = session_id is None  # without a call of ours to end with
        self._prefix = prefix
        self._target = target
        self._me = me
        self._server = server_base_url

    @property
    def session_id(self) -> str:
        # Made when first needed: hardly any answer carries a function.
        if self._session_id is None:
            self._session_id = new_session_id(self._prefix)
        return self._session_id

    def export_function(self, function: Callable[..., Any]) -> dict[str, Any]:
        # A remote function of this very server travels on as it came; its owner is called directly.
        if isinstance(function, RemoteFunction) and function.encoded.get("_rserver", self._server) == self._server:
            return function.encoded
        name = str(getattr(function, "__name__", "")).replace(".", "_")
        object_id = f"{secrets.token_hex(6)}#{name}" if name else secrets.token_hex(6)
        self._sessions.put(self.session_id, self._target, object_id, function, ends_by_age=self._ends_by_age)
        return {
            "_rtype": "method",
            "_rserver": self._server,
            "_rtarget": self._me,
            "_rmethod": f"{self.session_id}.{object_id}",
            "_rpromise": "*",
            "_rname": name or None,
            "_rdoc": inspect.getdoc(function),
        }

    def export_generator(self, generator: Any) -> dict[str, Any]:
        object_id = secrets.token_hex(6)
        close_name = self._sessions.put_generator(
            self.session_id, self._target, object_id, generator, ends_by_age=self._ends_by_age
        )
        return {
            "_rtype": "generator",
            "_rserver": self._server,
            "_rtarget": self._me,
            "_rmethod": f"{self.session_id}.{object_id}",
            "_rclose_method": f"{self.session_id}.{close_name}",
            "_rpromise": "*",
            "_rdoc": "Remote generator",
        }
