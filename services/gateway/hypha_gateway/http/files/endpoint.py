from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.errors import HyphaError
from hypha_common.plans import Fetch, HttpCall, Plan, Reply, Store
from hypha_gateway.http.denials import note_denial
from hypha_gateway.http.responses import Receive, Scope, Send

from .calling import ask, call_of, tell_stored
from .exchange import Exchange
from .failures import ClientGoneError
from .fetching import fetch
from .kinds import Kind
from .storing import Storing
from .user_content import user_content_headers

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["FileEndpoint"]


class FileEndpoint:
    """The endpoint of one kind of route: plain ASGI, because nothing is held in memory whole."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: GatewayState = scope["app"].state.gateway
        exchange = Exchange(scope, receive, send, errors=self._kind.errors)
        try:
            call = await call_of(state, self._kind, exchange)
            await _execute(await ask(state, call), call, state, exchange)
        except ClientGoneError:
            return
        except HyphaError as error:
            note_denial(state, scope, error)
            await exchange.fail(error)


async def _execute(plan: Plan, call: HttpCall, state: GatewayState, exchange: Exchange) -> None:
    app = exchange.scope["app"]
    if isinstance(plan, Fetch):
        await fetch(plan, exchange, app.state.upstream)
    elif isinstance(plan, Store):
        if not hasattr(app.state, "storing"):
            app.state.storing = Storing(app.state.upstream)
        await _reply(await tell_stored(state, call, await app.state.storing.store(plan, exchange.body)), exchange)
    else:
        await _reply(plan, exchange)


async def _reply(plan: Reply, exchange: Exchange) -> None:
    headers = user_content_headers(plan.headers)
    length = str(len(plan.body))
    if not plan.body and (exchange.method == "HEAD" or plan.status == 304):  # may tell what a GET would get
        length = next((value for name, value in plan.headers if name.lower() == "content-length"), length)
    if plan.status != 304 or length != "0":
        headers.append(("content-length", length))
    await exchange.send_whole(plan.status, headers, plan.body)
