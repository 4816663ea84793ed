from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["for_server_only"]

_SERVER = "client-role-"  # no client of a Hypha server can have such an id


def for_server_only(function: Callable[..., Any], *, require_context: bool) -> Callable[..., Any]:
    """
    Serve the server alone: anybody may call a public service, but sessions are not everybody's to read or to stop.

    ``require_context``: whether ``function`` takes the context itself.

    """

    @functools.wraps(function)
    async def guarded(*args: Any, context: Mapping[str, Any], **kwargs: Any) -> Any:
        if not str(context.get("from", "")).rpartition("/")[2].startswith(_SERVER):
            raise PermissionError("Permission denied: apps are started and stopped by public/server-apps")
        result = function(*args, **kwargs, **({"context": context} if require_context else {}))
        return await result if inspect.isawaitable(result) else result

    return guarded
