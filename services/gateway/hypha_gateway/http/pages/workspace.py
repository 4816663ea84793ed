from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response

from hypha_common.errors import HyphaError, PermissionDenied, Unauthorized
from hypha_gateway.http.caller import Caller, caller_in, workspace_info
from hypha_gateway.http.denials import note_denial
from hypha_gateway.http.openapi import Answer, Operation, describes
from hypha_gateway.http.workspaces import ask_manager

from .shell import page, template

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["workspace_page"]

_MOST_SHOWN = 200
_OWN_SERVICE = "built-in"  # of every client; nobody looks for it
_NO_STORE = {"Cache-Control": "no-store"}
_PAGE = {"text/html": {"type": "string"}}
_ERROR = {"application/json": {"$ref": "#/components/schemas/Error"}}


@describes(
    Operation(
        "The page of a workspace",
        {
            200: Answer("The services and clients that the caller may see, and how to call them", _PAGE),
            401: Answer("The token is no good; the page leads to the login", _PAGE),
            403: Answer("Nothing here is for the caller; the page leads to the login", {**_PAGE, **_ERROR}),
            404: Answer.error("There is no such workspace"),
            504: Answer.error("The workspace service does not answer"),
        },
        tag="pages",
        token=True,
    )
)
async def workspace_page(request: Request) -> Response:
    """``GET /{workspace}/``"""
    state: GatewayState = request.app.state.gateway
    name: str = request.path_params["workspace"]
    base_path = state.settings.base_path.rstrip("/")
    try:
        caller = await caller_in(state, request.scope, name)
    except Unauthorized as error:
        note_denial(state, request.scope, error)
        return _refused(name, "Your login is no longer good.", 401, base_path)
    listed = await ask_manager(state, caller, "list_services", name)
    services = [service for service in listed if not str(service.get("id")).endswith(f":{_OWN_SERVICE}")]
    info = await _info(state, caller, name)
    if info is None and not services:
        note_denial(state, request.scope, PermissionDenied(f"Nothing to be seen in {name}"))
        return _refused(name, "There is nothing here that you may see.", 403, base_path)
    clients = None if info is None else await _clients(state, caller, name)
    example = _Example(services[0] if services else None)
    body = template("workspace.html").substitute(
        base_path=escape(base_path),
        url=escape(state.settings.public_base_url),
        path=escape(quote(name)),
        login=escape(_login(name, base_path)),
        name=escape(name),
        description=escape(str((info or {}).get("description") or "")),
        viewer=_viewer(caller, member=info is not None),
        services=_services(services, f"{base_path}/{quote(name)}"),
        clients=_client_list(clients),
        example_id=escape(example.id.replace('"', '\\"')),
        example_path=escape(quote(example.id.rpartition("/")[2], safe=":")),
        example_function=escape(example.function),
    )
    return page(f"{name} · Hypha", body, headers=_NO_STORE)


async def _info(state: GatewayState, caller: Caller, name: str) -> Mapping[str, Any] | None:
    """Return what a member may know of the workspace, or None for others."""
    try:
        return await workspace_info(state, caller.user, name)
    except PermissionDenied:
        return None


async def _clients(state: GatewayState, caller: Caller, name: str) -> Sequence[Mapping[str, Any]] | None:
    try:
        clients: list[dict[str, Any]] = await ask_manager(state, caller, "list_clients", name)
    except HyphaError as error:
        if error.status != 403:
            raise
        return None
    return clients


class _Example:
    """A service and one of its functions, for the instructions."""

    def __init__(self, service: Mapping[str, Any] | None) -> None:
        self.id = "workspace/client:service" if service is None else str(service["id"])
        schema = (service or {}).get("service_schema")
        names = list(schema) if isinstance(schema, dict) else []
        self.function = next((name for name in names if str(name).isidentifier()), "function")


def _viewer(caller: Caller, *, member: bool) -> str:
    who = "You are not logged in" if caller.principal.is_anonymous else f"You are {escape(caller.principal.id)}"
    return f"{who}." if member else f"{who}; members may see more."


def _services(services: Sequence[Mapping[str, Any]], address: str) -> str:
    if not services:
        return '<p class="soft">None is registered right now.</p>'
    rows = "\n".join(_service(service, address) for service in services[:_MOST_SHOWN])
    more = len(services) - _MOST_SHOWN
    tail = f'<p class="soft">And {more} more: see the services as JSON.</p>' if more > 0 else ""
    return f'<ul class="list">\n{rows}\n</ul>{tail}'


def _service(service: Mapping[str, Any], address: str) -> str:
    short = str(service.get("id")).rpartition("/")[2]
    kind = str(service.get("type") or "generic")
    visibility = str((service.get("config") or {}).get("visibility") or "protected")
    path = quote(short, safe=":@")
    link = escape(f"{address}/services/{path}")
    app = ""
    if kind.lower() in ("asgi", "functions"):
        page_link = escape(f"{address}/apps/{path}/")
        app = f' <a href="{page_link}">open</a>'
    description = str(service.get("description") or "")
    return (
        f'<li><div class="row"><a class="name" href="{link}">{escape(str(service.get("name") or short))}</a>'
        f' <span class="tag">{escape(kind)}</span> <span class="tag">{escape(visibility)}</span>{app}</div>'
        f"<p><code>{escape(short)}</code></p>{f'<p>{escape(description)}</p>' if description else ''}</li>"
    )


def _client_list(clients: Sequence[Mapping[str, Any]] | None) -> str:
    if clients is None:
        return ""
    rows = "\n".join(
        f"<li><code>{escape(str(client.get('id')).rpartition('/')[2])}</code>"
        f' <span class="soft">{escape(str((client.get("user") or {}).get("id", "")))}</span></li>'
        for client in clients[:_MOST_SHOWN]
    )
    return f'<h2>Clients</h2>\n<ul class="list">\n{rows}\n</ul>'


def _login(name: str, base_path: str) -> str:
    """Return the address of the login page that leads back here."""
    return f"{base_path}/login?{urlencode({'redirect': f'{base_path}/{quote(name)}/'})}"


def _refused(name: str, reason: str, status: int, base_path: str) -> Response:
    body = (
        f'<p class="soft"><a href="{escape(base_path)}/">Hypha</a> &rsaquo; workspace</p>\n<h1>{escape(name)}</h1>\n'
        f'<p>{reason} <a href="{escape(_login(name, base_path))}">Log in</a> as a member of this workspace.</p>'
    )
    headers = {**_NO_STORE, **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
    return page(f"{name} · Hypha", body, status=status, headers=headers)
