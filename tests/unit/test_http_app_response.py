"""Whatever a web service sends, what leaves the gateway is HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hypha_common.errors import HyphaError
from hypha_common.ids import Address
from hypha_gateway.http.apps.faults import AppFault
from hypha_gateway.http.apps.headers import for_app
from hypha_gateway.http.apps.request_events import RequestEvents
from hypha_gateway.http.apps.response import AppResponse
from hypha_gateway.web_apps import Room

_START = {"type": "http.response.start"}

_text = st.one_of(st.binary(max_size=12), st.text(max_size=12), st.sampled_from([b"content-length", b"x-a", b"5", "5"]))
_header = st.one_of(st.tuples(_text, _text).map(list), st.lists(_text, max_size=3), st.integers())
_start = st.fixed_dictionaries(
    {"type": st.just("http.response.start")},
    optional={
        "status": st.one_of(st.sampled_from([200, 204, 304, 404]), st.integers(), st.text(max_size=3), st.booleans()),
        "headers": st.one_of(st.lists(_header, max_size=3), st.text(max_size=3), st.none()),
        "trailers": st.booleans(),
    },
)
_body = st.fixed_dictionaries(
    {"type": st.just("http.response.body")},
    optional={"body": st.one_of(_text, st.integers(), st.none()), "more_body": st.booleans()},
)
_other = st.one_of(st.none(), st.integers(), st.dictionaries(st.text(max_size=4), st.integers(), max_size=2))
_events = st.lists(st.one_of(_start, _body, _other, st.just({"type": "http.response.trailers"})), max_size=5)


class Wire:
    """The server: takes only what can be written as HTTP."""

    def __init__(self, method: str) -> None:
        self._http = h11.Connection(h11.SERVER)
        self._http.receive_data(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        self._http.next_event()
        self._http.next_event()
        self.whole = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._http.send(h11.Response(status_code=message["status"], headers=message["headers"]))
            return
        if message["body"]:
            self._http.send(h11.Data(data=message["body"]))
        if not message["more_body"]:
            self._http.send(h11.EndOfMessage())
            self.whole = True


@given(_events, st.sampled_from(["GET", "HEAD"]))
@example(
    [{"type": "http.response.start", "headers": [[b"content-length", b"5"]]}, {"type": "http.response.body"}], "GET"
)
@example([{"type": "http.response.start", "status": 204}, {"type": "http.response.body", "body": b"x"}], "GET")
@settings(deadline=None)
def test_any_events(events: list[Any], method: str) -> None:
    """Each is taken or refused with a reason; an answer counts as complete exactly where it is one."""

    async def run() -> None:
        request = RequestEvents(_nothing_more())
        reading = asyncio.create_task(request.read())
        await asyncio.sleep(0)
        wire = Wire(method)
        response = AppResponse(wire.send, request, room=Room(1000), is_head=method == "HEAD")
        failed = False
        for event in events:
            try:
                await response.send(event)
            except HyphaError as error:
                failed = failed or isinstance(error, AppFault)
        assert response.is_complete == wire.whole
        if failed:
            assert response.over.done()
        reading.cancel()

    asyncio.run(run())


def _nothing_more() -> Any:
    told = False

    async def receive() -> dict[str, Any]:
        nonlocal told
        if told:
            await asyncio.Event().wait()
        told = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


@pytest.mark.parametrize(
    ("cookie", "seen"),
    [
        (b"a=1; access_token=x; b=2", b"a=1; b=2"),
        (b"hypha_local_token=x", None),
        (b' access_token = "x" ;a=1', b"a=1"),
        (b"my_access_token=x", b"my_access_token=x"),
    ],
)
def test_cookies_of_the_hub(cookie: bytes, seen: bytes | None) -> None:
    """No application of a user gets them; what stands in `public` is the operator's."""
    headers = [(b"x", b"y"), (b"cookie", cookie)]
    assert dict(for_app(headers, Address("ws-user-a", "c"))).get(b"cookie") == seen
    assert list(for_app(headers, Address("public", "c"))) == headers
