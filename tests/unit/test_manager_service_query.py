from __future__ import annotations

from typing import Any

import pytest

from hypha_common.errors import BadRequest, HyphaError, PermissionDenied
from hypha_workspace.manager.service_query import ServiceQuery, read_query


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (None, ServiceQuery("ws")),
        ("other", ServiceQuery("other")),
        ("*", ServiceQuery("*")),
        ("w/svc", ServiceQuery("w", service_id="svc")),
        ("w/c:svc", ServiceQuery("w", client_id="c", service_id="svc")),
        ("c:svc@app", ServiceQuery("ws", client_id="c", service_id="svc", app_id="app")),
        ("*/svc", ServiceQuery("ws", service_id="svc", visibility="public")),
        ("*/c:svc", ServiceQuery("ws", client_id="c", service_id="svc", visibility="public")),
        ({}, ServiceQuery("ws")),
        ({"workspace": "w", "service_id": "default"}, ServiceQuery("w", service_id="default")),
        ({"id": "svc@app", "type": None}, ServiceQuery("ws", service_id="svc", app_id="app")),
        ({"id": "w/c:svc"}, ServiceQuery("w", client_id="c", service_id="svc")),
        ({"client_id": "w/c"}, ServiceQuery("w", client_id="c")),
        ({"type": "worker", "visibility": "public"}, ServiceQuery("ws", type="worker", visibility="public")),
    ],
)
def test_forms(query: object, expected: ServiceQuery) -> None:
    """Each form of contract 01 §3.11."""
    assert read_query(query, own_workspace="ws") == expected


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"nope": 1}, "ValueError: Invalid query keys: {'nope'}"),
        ({"type": "a b"}, "ValueError: Invalid characters in query part: a b"),
        ({"id": "a", "service_id": "b"}, "AssertionError: Query must not contain both 'id' and 'service_id'"),
        ({"service_id": "a@x", "app_id": "y"}, "AssertionError: App id mismatch: x != y"),
        ({"workspace": "*", "visibility": "protected"}, "AssertionError: Cannot list protected or unlisted"),
        ({"workspace": "w*"}, "ValueError: Invalid characters in query part: w*"),
        ({"workspace": 3}, "ValueError"),
        (3, "ValueError"),
        ("a/b/c", "AssertionError: Query must contain at most one '/'"),
    ],
)
def test_refusals(query: Any, text: str) -> None:
    """What upstream refuses is refused with the same words."""
    with pytest.raises(BadRequest) as caught:
        read_query(query, own_workspace="ws")
    assert caught.value.rpc_text().startswith(text)


def test_unlisted() -> None:
    """Unlisted services are shown in the own workspace alone; for `public` the wish is ignored."""
    own = read_query({"visibility": "public"}, own_workspace="ws", include_unlisted=True)
    assert own.include_unlisted
    assert own.visibility == "*"
    assert not read_query("public", own_workspace="ws", include_unlisted=True).include_unlisted
    for query in ("*", "other"):
        with pytest.raises(PermissionDenied) as caught:
            read_query(query, own_workspace="ws", include_unlisted=True)
        assert isinstance(caught.value, HyphaError)
