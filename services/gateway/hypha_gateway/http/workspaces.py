from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hypha_common.errors import HyphaError, NotFound, PermissionDenied

from .arguments import Arguments, Media
from .caller import Caller, caller_in, workspace_info
from .errors import describe_failure
from .openapi import Answer, Operation, Parameter, describes
from .openapi.schemas import reference
from .remote import MANAGER_NAMES, RemoteCaller
from .responses import encode_json

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["MODE", "ask_manager", "redirect_to_slash", "service", "services", "workspace"]


_AS_THEY_ARE = "/:@!$&'()*+,;="  # in paths

MODE = Parameter("_mode", "which of several services that match: `random`, `first`, `last`, `exact`, `min_load` …")
_FAILURES = {
    404: Answer.error("There is no such workspace or service"),
    500: Answer.error("The workspace manager failed"),
    504: Answer.error("The workspace manager does not answer"),
}


@describes(
    Operation(
        "What a workspace is",
        {200: Answer.json("The workspace", reference("WorkspaceInfo")), **_FAILURES},
        token=True,
    )
)
async def workspace(request: Request) -> Response:
    """``GET /{workspace}/info``"""
    state, name = _gateway(request), request.path_params["workspace"]
    caller = await caller_in(state, request.scope, name)
    try:
        return _json(await workspace_info(state, caller.user, name))
    except PermissionDenied:
        raise PermissionDenied(f"{caller.principal.id} has no permission to access {name}") from None
    except NotFound:
        raise _unknown(name) from None


@describes(
    Operation(
        "The services of a workspace that the caller may see",
        {
            200: Answer.json(
                "Their infos; `id` is shortened to `client:service`",
                {"type": "array", "items": reference("ServiceInfo")},
            ),
            **_FAILURES,
        },
        token=True,
    )
)
async def services(request: Request) -> Response:
    """``GET /{workspace}/services/``: what the caller may see there, with ids shortened to ``client:service``."""
    state, name = _gateway(request), request.path_params["workspace"]
    caller = await caller_in(state, request.scope, name)
    found = await ask_manager(state, caller, "list_services", name)
    if not found:
        await _require_workspace(state, caller, name)
    return _json([{**info, "id": str(info.get("id")).rpartition("/")[2]} for info in found])


@describes(
    Operation(
        "One service",
        {200: Answer.json("Its info", reference("ServiceInfo")), **_FAILURES},
        parameters=(MODE,),
        token=True,
    )
)
async def service(request: Request) -> Response:
    """``GET /{workspace}/services/{service_id}``"""
    state, name = _gateway(request), request.path_params["workspace"]
    service_id = request.path_params["service"]
    caller = await caller_in(state, request.scope, name)
    query = "~" if service_id in MANAGER_NAMES else f"{name}/{service_id}"
    mode = request.query_params.get("_mode")
    config = {"read_app_manifest": True, **({"mode": mode} if mode else {})}  # what an app offers that does not run
    return _json(await ask_manager(state, caller, "get_service_info", query, config))


@describes(
    Operation(
        "To the same address with a slash at its end",
        {307: Answer.redirect("This is a folder"), 404: Answer.error("This cannot be one")},
    )
)
async def redirect_to_slash(request: Request) -> Response:
    """``/{workspace}``, ``/{workspace}/services`` and ``/{workspace}/apps/{service}`` are folders."""
    query = f"?{request.url.query}" if request.url.query else ""
    # Encoded anew: a decoded "?" or "%" would make another address of it.
    return RedirectResponse(f"{quote(request.scope['path'], safe=_AS_THEY_ARE)}/{query}", status_code=307)


async def ask_manager(state: GatewayState, caller: Caller, method: str, *args: Any) -> Any:
    remote = await RemoteCaller.open(state, caller)
    try:
        return await remote.manager(method, Arguments(args=list(args)))
    except HyphaError as error:
        raise RemoteFailureError(error, detailed=state.settings.expose_detailed_errors) from None


async def _require_workspace(state: GatewayState, caller: Caller, name: str) -> None:
    """An empty list may mean that there is no such workspace; whether one exists that is hidden is not told."""
    try:
        await workspace_info(state, caller.user, name)
    except PermissionDenied:
        return
    except NotFound:
        raise _unknown(name) from None


class RemoteFailureError(HyphaError):
    """An error of the other side, with the status and text that HTTP callers get."""

    def __init__(self, error: HyphaError, *, detailed: bool) -> None:
        self.status, detail = describe_failure(error, detailed=detailed)
        super().__init__(detail)


def _unknown(name: str) -> NotFound:
    return NotFound(f"Workspace '{name}' not found")


def _gateway(request: Request) -> GatewayState:
    state: GatewayState = request.app.state.gateway
    return state


def _json(value: Any) -> Response:
    return Response(encode_json(value), headers={"Content-Type": Media.JSON.value.decode()})
