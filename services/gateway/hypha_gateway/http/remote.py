from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.errors import DeadlineExceeded, Unavailable
from hypha_common.ids import MANAGER_ADDRESS, Address
from hypha_common.rpc.remote import RemoteError
from hypha_common.service_tree import Leaf, find_in_service, is_function, without_functions
from hypha_common.subjects import partition_of, role_verb

from .arguments import Arguments
from .caller import Caller
from .errors import FunctionNotFound, is_missing_method, is_no_function
from .hang_up import end_on_hang_up
from .responses import Receive

if TYPE_CHECKING:
    from hypha_common.rpc.calls import OutgoingCall
    from hypha_gateway.state import GatewayState

__all__ = ["MANAGER", "MANAGER_NAMES", "RemoteCaller", "resolve"]

_RESOLVE_TIMEOUT_S = 1.3  # asked twice: a replica may die with the question in its hands
_SELECT_TIMEOUT_S = 30.0  # providers are asked one after another

CALL_TIMEOUT_S = 30.0  # of silence: the provider's heartbeats start it anew
GET_SERVICE_TIMEOUT_S = 10.0

MANAGER_NAMES = ("ws", "~")
MANAGER = Address.parse(MANAGER_ADDRESS)


class RemoteCaller:
    """Calls of RPC services in the name of one HTTP caller. Results keep their wire form (``_rtype`` maps)."""

    __slots__ = ("_sender", "_state", "caller", "receive")

    def __init__(self, state: GatewayState, caller: Caller, sender: Address) -> None:
        self._state = state
        self._sender = sender
        self.caller = caller
        self.receive: Receive | None = None  # of a request whose body has been read: tells when its caller hangs up

    @classmethod
    async def open(cls, state: GatewayState, caller: Caller) -> RemoteCaller:
        return cls(state, caller, await state.sender_for(caller.workspace))

    async def call(self, to: Address, method: str, arguments: Arguments, *, timeout: float = CALL_TIMEOUT_S) -> Any:
        """Call one method. Raises what :meth:`RpcPeer.call` does."""
        return await self._state.peer.call(
            to,
            method,
            *arguments.args,
            kwargs=arguments.kwargs or None,
            sender=self._sender,
            workspace=self.caller.workspace,
            user=self.caller.user,
            timeout=timeout,
            encode=False,
            decode=False,
            on_long=self._watch,
        )

    def _watch(self, call: OutgoingCall) -> None:
        if self.receive is not None:
            end_on_hang_up(self.receive, call)

    def items(self, provider: Address, generator: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Return the items of a generator that ``provider`` answered a call of ours with."""
        return self._state.peer.iterate(
            generator,
            origin=provider,
            sender=self._sender,
            workspace=self.caller.workspace,
            user=self.caller.user,
            decode=False,
        )

    async def function(self, provider: Address, service: str, leaf: Leaf, name: str, arguments: Arguments) -> Any:
        """
        Call the function ``name`` (a dotted path) of a service, or return the value that stands there instead.

        ``leaf`` is what the service's schema says of it. Raises FunctionNotFound where there is neither.

        """
        method = f"services.{service}.{name}"
        if leaf is Leaf.FUNCTION or leaf is Leaf.UNKNOWN:
            try:
                return await self.call(provider, method, arguments)
            except RemoteError as error:
                missing = is_missing_method(error, method)
                if not missing and not (leaf is Leaf.UNKNOWN and is_no_function(error)):
                    raise
                if leaf is Leaf.FUNCTION:
                    raise FunctionNotFound(name) from None
        return await self._stored(provider, service, name, arguments)

    async def manager(self, name: str, arguments: Arguments) -> Any:
        """Call the workspace manager, in the caller's workspace."""
        method = f"services.default.{name}"
        try:
            return await self.call(MANAGER, method, arguments)
        except RemoteError as error:
            if not is_missing_method(error, method):
                raise
        return await self._stored(MANAGER, "default", name, arguments)

    async def service(self, provider: Address, service: str) -> Any:
        """Fetch a whole encoded service from its provider."""
        fetch = Arguments(args=[service])
        return await self.call(provider, "services.built-in.get_service", fetch, timeout=GET_SERVICE_TIMEOUT_S)

    async def _stored(self, provider: Address, service: str, name: str, arguments: Arguments) -> Any:
        """Use what the provider itself says is at ``name``: a value, or a function the schema did not tell of."""
        found, value = find_in_service(await self.service(provider, service), name)
        if not found:
            raise FunctionNotFound(name)
        if not is_function(value):
            return without_functions(value)
        # Not at `_rtarget`: a provider could name somebody else's method there, to be called in this caller's name.
        return await self.call(provider, f"services.{service}.{name}", arguments)


async def resolve(
    state: GatewayState,
    caller: Caller,
    workspace: str,
    service_id: str,
    mode: str | None,
    *,
    function: str = "",
    lazy: bool = False,
) -> Mapping[str, Any]:
    """
    Ask the workspace service which client serves ``workspace/service_id`` for this caller.

    Returns the service's info with ``client`` and ``service``; where only one ``function`` is wanted, no schema, which
    may be long, but ``leaf``: what the schema says of that function. With ``lazy``, ``idle`` may stand instead of all
    this: the app that serves it has to be started first, see :func:`.lookup.find`.

    """
    query = {
        "service_id": f"{workspace}/{service_id}",
        "mode": mode,
        "user": caller.user,
        "workspace": caller.workspace,
        "gateway": state.bus.instance,
        "function": function,
        "lazy": lazy,
    }
    subject = role_verb("workspace", partition_of(workspace), "resolve")
    selects = mode is not None and mode.startswith("select:")
    try:
        answer: Mapping[str, Any] = await state.bus.request(
            subject, query, timeout=_SELECT_TIMEOUT_S if selects else _RESOLVE_TIMEOUT_S, attempts=1 if selects else 2
        )
    except (DeadlineExceeded, Unavailable):
        raise Unavailable("The workspace service does not answer, please retry") from None
    return answer
