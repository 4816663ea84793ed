from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from hypha.core import UserInfo
from hypha_common.custom_auth import LOGIN, PARTS, PROVIDER_SERVICE, REGISTRY_SERVICE
from hypha_common.errors import HyphaError
from hypha_common.ids import HTTP_CLIENT_PREFIX, PUBLIC_WORKSPACE, ROLE_CLIENTS
from hypha_common.principal import Principal

from .login_service import login_service
from .user_code import summary

__all__ = ["AuthFunctions"]

log = structlog.get_logger(__name__)

_AUTH = next(client for client, role in ROLE_CLIENTS.items() if role == "auth")
_ASKING = (f"{PUBLIC_WORKSPACE}/{_AUTH}", f"{PUBLIC_WORKSPACE}/{HTTP_CLIENT_PREFIX}")  # auth, and gateways


class AuthFunctions:
    """
    The custom authentication of startup functions: keeps their functions, and answers the cluster with them.

    Of several functions for one part the last counts.

    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._functions: dict[str, Callable[..., Any]] = {}
        self._registry: Any = None

    async def register_auth_service(
        self,
        *,
        parse_token: Callable[..., Any] | None = None,
        generate_token: Callable[..., Any] | None = None,
        get_token: Callable[..., Any] | None = None,
        login_service: Mapping[str, Any] | None = None,
        index_handler: Callable[..., Any] | None = None,
        start_handler: Callable[..., Any] | None = None,
        check_handler: Callable[..., Any] | None = None,
        report_handler: Callable[..., Any] | None = None,
        **extra: Any,
    ) -> None:
        """
        Authenticate users in one's own way (contract 01 §4.6).

        Args:
            parse_token: token -> UserInfo or map; raises for a token that is no good
            generate_token: (user_info, expires_in) -> token
            get_token: ASGI scope -> the token of an HTTP request, or None where it has none of this kind
            login_service: methods of hypha-login, as a map
            index_handler: event -> {status, headers, body}: the login page
            start_handler: begins a login; returns {login_url, key, report_url, check_url}
            check_handler: (key, timeout, profile) -> the token of a login
            report_handler: completes a login
            extra: further methods of hypha-login; `logout_handler` becomes its `logout`

        """
        handlers = {"index": index_handler, "start": start_handler, "check": check_handler, "report": report_handler}
        given = {name: handler for name, handler in handlers.items() if handler is not None}
        given |= {name.removesuffix("_handler"): value for name, value in extra.items() if value is not None}
        functions = {"parse_token": parse_token, "generate_token": generate_token, "get_token": get_token}
        for name, function in (*functions.items(), *((name, given.get(name)) for name in handlers)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, not {type(function).__name__}")
        if login_service is not None or given:
            await self._serve_login(login_service, given)
        await self._keep({name: function for name, function in functions.items() if function is not None})

    def setter(self, part: str) -> Callable[[Callable[..., Any]], Any]:
        """Return ``set_parse_token_function`` and the like, to be awaited."""

        async def set_function(function: Callable[..., Any]) -> None:
            functions: dict[str, Any] = {part: function}
            await self.register_auth_service(**functions)

        set_function.__name__ = f"set_{part}_function"
        set_function.__doc__ = f"Use a function as `{part}` of :meth:`register_auth_service`."
        return set_function

    async def settle(self) -> None:
        """Once all functions have run: nothing that a former run registered is left. Raises what a call does."""
        if not self._functions:
            await self._tell()

    async def _serve_login(self, service: Mapping[str, Any] | None, methods: Mapping[str, Any]) -> None:
        default = await self._client.get_service(f"{PUBLIC_WORKSPACE}/{_AUTH}:hypha-login")
        await self._client.register_service(login_service(default, service, methods), overwrite=True)
        self._put(LOGIN, login_service)

    async def _keep(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        for part, function in functions.items():
            self._put(part, function)
        service: dict[str, Any] = {
            "id": PROVIDER_SERVICE,
            "config": {"visibility": "protected", "require_context": True, "_local_only": True},
        }
        service |= {part: self._answering(part) for part in self._functions if part != LOGIN}
        self._client.rpc.add_service(service, overwrite=True)
        await self._tell()

    def _put(self, part: str, function: Callable[..., Any]) -> None:
        if part in self._functions:
            log.warning("custom_auth_replaced", part=part)
        self._functions[part] = function

    async def _tell(self) -> None:
        """Let the auth service know which parts there are."""
        if self._registry is None:
            self._registry = await self._client.get_service(f"{PUBLIC_WORKSPACE}/{_AUTH}:{REGISTRY_SERVICE}")
        await self._registry.register([part for part in PARTS if part in self._functions])

    def _answering(self, part: str) -> Callable[..., Any]:
        async def answer(*arguments: Any, context: Any = None) -> dict[str, Any]:
            """Answer ``{result}``, or ``{error}`` where the function refuses."""
            asking = str((context or {}).get("from"))
            if not (asking == _ASKING[0] or asking.startswith(_ASKING[1])):
                raise PermissionError(f"{asking} may not ask for custom authentication")
            try:
                return {"result": await _result(part, self._functions[part], arguments)}
            except Exception as error:  # noqa: BLE001  # whatever the function raises is its way to refuse
                return {"error": _text(error)}

        return answer


async def _result(part: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    if part == "generate_token":
        arguments = (_user(arguments[0]), *arguments[1:])
    if inspect.iscoroutinefunction(function):
        result = await function(*arguments)
    else:
        result = await asyncio.to_thread(function, *arguments)  # it may wait for another server
        if inspect.isawaitable(result):
            result = await result
    if part == "parse_token":
        if result is None:
            raise ValueError("The token is not valid")
        return UserInfo.dump_of(result)
    if result is not None and not isinstance(result, str):
        raise TypeError(f"{part} must return text, not {type(result).__name__}")
    return result


def _user(data: Mapping[str, Any]) -> UserInfo:
    return UserInfo.of(Principal.load(dict(data)))


def _text(error: Exception) -> str:
    detail = getattr(error, "detail", None)  # of HTTP exceptions
    if isinstance(detail, str) and detail:
        return detail
    return str(error) if isinstance(error, HyphaError) or str(error) else summary(error)
