from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hypha_common import trace
from hypha_common.errors import BadRequest, HyphaError, PermissionDenied
from hypha_common.ids import MANAGER_ADDRESS, Address
from hypha_common.principal import Principal
from hypha_common.wire import unpack_extra

from .builtin import BUILT_IN
from .caller import Caller
from .frames import address_of, read_promise
from .functions import Identity
from .metrics import CALLBACK, UNKNOWN, Stopwatch
from .outbox import Outbox
from .remote import MethodNotFound
from .reply import Reply
from .router import canonical
from .running import RunningCalls, rejection_of
from .service import Method, Service

__all__ = ["Executor", "Incoming", "args_of"]

MAX_PRINCIPALS = 4096
SERVICES = "services."


@dataclass(slots=True)
class Incoming:
    """A ``method`` frame, its header stamped by a gateway or a role."""

    header: dict[str, Any]
    method: str
    sender: str
    target: str
    workspace: str
    session: str | None
    gateway: str
    generation: int

    @property
    def shown(self) -> str:
        return f"{self.sender}:{self.method}"


class Executor:
    """Executes what others call: methods of services, and callbacks this peer has handed out."""

    def __init__(self, outbox: Outbox, built_in: Service, *, user: bytes, calls_per_sender: int) -> None:
        self._outbox = outbox
        self._built_in = built_in
        self._user = user
        self.running = RunningCalls(per_sender=calls_per_sender)
        self.services: dict[tuple[str, str], Service] = {}  # by (address, service id)
        self._principals: dict[str, tuple[Any, Principal]] = {}

    def add(self, service: Service, addresses: Iterable[Address | str]) -> None:
        for address in addresses:
            self.services[canonical(str(address)), service.id] = service

    def find(self, address: Address | str, service_id: str) -> Service | None:
        """Return the service of that id at ``address``; the built-in one is everywhere."""
        if service_id == BUILT_IN:
            return self._built_in
        return self.services.get((canonical(str(address)), service_id))

    def execute(self, incoming: Incoming, frame: bytes | memoryview, offset: int) -> None:
        """Run a call in its trace and answer it, at once where the method is not asynchronous."""
        token = trace.enter(incoming.header.get(trace.KEY))
        try:
            self._execute(incoming, frame, offset)
        finally:
            trace.leave(token)

    def _execute(self, incoming: Incoming, frame: bytes | memoryview, offset: int) -> None:
        # In its own name a role acts in the workspace of whom it talks to (contract 01 §1.7).
        identity = Identity(incoming.target, incoming.sender.partition("/")[0], self._user)
        name = self._name_of(incoming)
        watch = Stopwatch(name)
        try:
            extra = unpack_extra(frame, offset)
            reply = self._reply(incoming, extra.get("promise"), extra.get("t"), identity)
        except HyphaError as error:
            watch.failed(error)
            promise = None if incoming.session is None else "*"
            reply = self._reply(incoming, promise, None, identity)
            reply.reject(rejection_of(error, reply))
            return
        shown = incoming.method if name != UNKNOWN else "services._OTHER"
        recorded = trace.start_call(shown, trace.SERVER, trace.RPC)
        if recorded is not None:
            trace.enter(recorded.context)
        try:
            self.running.admit(incoming.sender)
            result = self._invoke(incoming, extra, identity)
        except Exception as error:  # noqa: BLE001  # the outer edge of a call: whatever the method raises is answered
            watch.failed(error)
            reply.reject(rejection_of(error, reply))
            if recorded is not None:
                recorded.end(error)
            return
        if inspect.isawaitable(result):
            work = watch.around(result)
            self.running.start(work if recorded is None else _recorded(work, recorded), reply)
            return
        watch.done()
        reply.resolve(result)
        if recorded is not None:
            recorded.end()

    def _reply(self, incoming: Incoming, promise: Any, interval: Any, identity: Identity) -> Reply:
        return Reply(
            self._outbox,
            read_promise(promise, interval, session=incoming.session, sender=incoming.sender),
            sender=incoming.sender,
            session=incoming.session,
            method=incoming.method,
            identity=identity,
        )

    def _invoke(self, incoming: Incoming, extra: dict[str, Any], identity: Identity) -> Any:
        args, kwargs = self._arguments(incoming, extra, identity)
        if not incoming.method.startswith(SERVICES):
            session_id, _, name = incoming.method.partition(".")
            find = self._outbox.sessions.find
            function = find(session_id, name, caller=incoming.sender, shown=incoming.shown)
            _check_arguments(function, args, kwargs)
            return function(*args, **kwargs)
        method = self._method(incoming)
        args, kwargs = method.parameters.bind(args, kwargs)
        if method.parameters.wants_context:
            kwargs["context"] = self._caller(incoming)
        return method.function(*args, **kwargs)

    def _arguments(
        self, incoming: Incoming, extra: dict[str, Any], identity: Identity
    ) -> tuple[list[Any], dict[str, Any]]:
        args = args_of(extra)
        if args:
            args = self._outbox.decoded(args, origin=incoming.sender, identity=identity, parent=incoming.session)
        if not extra.get("with_kwargs"):
            return args, {}
        kwargs = args.pop() if args else None
        if not isinstance(kwargs, dict):
            raise BadRequest("The last argument must be the map of keyword arguments")
        return args, kwargs

    def _name_of(self, incoming: Incoming) -> str:
        """Return what metrics call a call: ``<service>.<method>`` where that is one of ours, else what sort it is."""
        if not incoming.method.startswith(SERVICES):
            return CALLBACK
        _, service_id, path = (*incoming.method.split(".", 2), "")[:3]
        service = self.find(incoming.target, service_id)
        return UNKNOWN if service is None or path not in service.methods else f"{service_id}.{path}"

    def _method(self, incoming: Incoming) -> Method:
        _, service_id, path = (*incoming.method.split(".", 2), "")[:3]
        service = self.find(incoming.target, service_id)
        method = service.methods.get(path) if service is not None else None
        if service is None or method is None:
            raise MethodNotFound(incoming.shown)
        home, caller = incoming.target.partition("/")[0], incoming.sender.partition("/")[0]
        if not service.allows(caller, home) and canonical(incoming.sender) != MANAGER_ADDRESS:
            raise PermissionDenied(
                f"Permission denied for invoking protected method {incoming.shown}, "
                f"workspace mismatch: {home} != {caller}"
            )
        if service.gate is not None:
            service.gate(incoming.sender)
        return method

    def _caller(self, incoming: Incoming) -> Caller:
        return Caller(
            principal=self._principal(incoming),
            workspace=incoming.workspace,
            sender=address_of(incoming.sender),
            target=address_of(incoming.target),
            method=incoming.method,
            session=incoming.session,
            gateway=incoming.gateway,
            generation=incoming.generation,
            header=incoming.header,
        )

    def _principal(self, incoming: Incoming) -> Principal:
        # Comparing two maps is much cheaper than building a principal, and a connection always sends the same one.
        user = incoming.header.get("user")
        known = self._principals.get(incoming.sender)
        if known is not None and known[0] == user:
            return known[1]
        if not isinstance(user, dict):
            raise BadRequest("A call needs a user")
        principal = Principal.load(user)
        self._principals.pop(incoming.sender, None)
        self._principals[incoming.sender] = (user, principal)
        if len(self._principals) > MAX_PRINCIPALS:
            del self._principals[next(iter(self._principals))]
        return principal


async def _recorded(work: Awaitable[Any], recorded: trace.Span) -> Any:
    try:
        value = await work
    except BaseException as error:
        recorded.end(error)
        raise
    recorded.end()
    return value


def _check_arguments(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raise BadRequest for arguments that a callback does not take, before it runs: that is the caller's fault."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some built-in functions have none
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise BadRequest(str(error), rpc_type="TypeError") from None


def args_of(extra: dict[str, Any]) -> list[Any]:
    """Return the positional list of an extra map. Raises BadRequest."""
    args = extra.get("args")
    if args is None:
        return []
    if not isinstance(args, list):
        raise BadRequest("The arguments of a call must be a list")
    return args
