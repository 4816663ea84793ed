from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from hypha_common.ids import Address
from hypha_gateway.http.responses import Scope

from .headers import for_app

__all__ = ["app_scope", "common_scope", "raw_remainder"]

_PARTS_BEFORE = 3  # workspace, "apps", service
_AS_THEY_ARE = "/:@!$&'()*+,;=~"


def common_scope(scope: Scope, path: str, *, base_path: str) -> dict[str, Any]:
    """Return what every web service is told of a request (contract 03 §4.2, §4.3); nothing but plain values."""
    names = scope["path_params"]
    return {
        "type": scope["type"],
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": scope.get("http_version", "1.1"),
        "server": list(scope["server"]) if scope.get("server") else None,
        "client": list(scope["client"]) if scope.get("client") else None,
        "scheme": scope.get("scheme", "http"),
        "root_path": "",
        "path": path,
        "raw_path": raw_remainder(scope, path, base_path),
        "query_string": scope["query_string"],
        "state": {},
        "workspace": names["workspace"],
        "service_id": names["service"],
    }


def app_scope(scope: Scope, path: str, provider: Address, *, base_path: str) -> dict[str, Any]:
    """Return the ASGI scope of a request or a websocket for the service at ``provider``."""
    found = common_scope(scope, path, base_path=base_path)
    found["headers"] = [[name, value] for name, value in for_app(scope["headers"], provider)]
    if scope["type"] == "http":
        found["method"] = scope["method"]
    else:
        found["subprotocols"] = list(scope.get("subprotocols") or ())
        found["extensions"] = {"websocket.http.response": {}}
    return found


def raw_remainder(scope: Scope, path: str, base_path: str) -> bytes:
    """Return the path after the service id as the client wrote it, before percent-decoding."""
    raw: bytes = (scope.get("raw_path") or b"").partition(b"?")[0]
    # Counted, not searched for: any part may be called as another one, and may be written in more than one way.
    parts = raw.split(b"/", base_path.count("/") + _PARTS_BEFORE + 1)
    rest = b"/" + parts[-1]
    if len(parts) > base_path.count("/") + _PARTS_BEFORE + 1 and unquote(rest.decode("latin-1")) == path:
        return rest
    return quote(path, safe=_AS_THEY_ARE).encode()
