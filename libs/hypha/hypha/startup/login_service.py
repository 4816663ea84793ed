from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["login_service"]

_DEFAULTS = ("start", "check", "report", "index", "profile", "logout")
_ABOUT = ("id", "name", "type", "config", "description", "docs", "app_id")
_DESCRIPTION = "Log in: start a login, complete it on a web page, fetch the token."


def login_service(
    default: Mapping[str, Any], given: Mapping[str, Any] | None, methods: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return the service ``hypha-login`` with custom methods, and those of the ``default`` one where there are none.

    The default methods are called from here, in the cluster's name: to others they are closed meanwhile. What belongs
    to the default page, such as accounts of the server, goes with it.

    """
    custom = {**(given or {}), **methods}
    names = _DEFAULTS if "index" in custom else [name for name in default if name not in _ABOUT]
    return {
        "name": "Hypha Login",
        "description": _DESCRIPTION,
        **{name: _forwarded(name, default[name]) for name in names},
        **custom,
        "id": "hypha-login",
        "type": "functions",
        "config": {**((given or {}).get("config") or {}), "visibility": "public"},
    }


def _forwarded(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {inner: _forwarded(inner, function) for inner, function in value.items()}
    return _forward(name, value) if callable(value) else value


def _forward(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    async def forward(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **kwargs)

    forward.__name__ = name
    forward.__doc__ = method.__doc__
    forward.__schema__ = getattr(method, "__schema__", None)  # type: ignore[attr-defined]
    return forward
