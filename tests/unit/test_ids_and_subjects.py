from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_common import subjects
from hypha_common.errors import BadRequest
from hypha_common.ids import Address, ServiceId, check_client_id, role_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=80)


@given(TEXT)
def test_every_id_becomes_one_reversible_token(text: str) -> None:
    """No id can contain a separator or a wildcard, and none is mistaken for another."""
    token = subjects.encode_token(text)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", token)
    assert subjects.decode_token(token) == text


@given(TEXT, TEXT)
def test_distinct_ids_have_distinct_tokens(one: str, two: str) -> None:
    assert (subjects.encode_token(one) == subjects.encode_token(two)) == (one == two)


@pytest.mark.parametrize("name", ["ws-user-alice", "public", "AbC_9"])
def test_plain_names_stay_readable(name: str) -> None:
    assert subjects.encode_token(name) == name


@given(TEXT.filter(bool), TEXT.filter(bool))
def test_a_client_subject_tells_its_client(workspace: str, client: str) -> None:
    subject = subjects.client_frames(workspace, client)
    assert subject.count(".") == 4
    assert subjects.parse_client_frames(subject) == (workspace, client)


@pytest.mark.parametrize("session", ["s" * 600, "\U0001f600" * 256, "." * 300])
def test_a_session_too_long_for_a_subject_has_no_token(session: str) -> None:
    assert subjects.session_token(session) == ""


@given(TEXT.filter(bool))
def test_a_session_has_a_token(session: str) -> None:
    if token := subjects.session_token(session):
        assert subjects.decode_token(token) == session


@pytest.mark.parametrize("instance", ["a b", "\r\nPING\r\n", "*.>", "é", ""])
def test_what_is_no_instance_does_not_become_part_of_the_bus_protocol(instance: str) -> None:
    assert re.fullmatch(r"hy\.i\.workspace\.[A-Za-z0-9_=-]+", subjects.pinned("workspace", instance))
    assert subjects.pinned("workspace", "AbCd1234") == "hy.i.workspace.AbCd1234"


def test_partitions_are_fixed_for_ever() -> None:
    """Rows live in the partition that these numbers say; changing them would lose data."""
    workspaces = ("public", "ws-user-root", "ws-user-github|123", "é")
    assert [subjects.partition_of(ws) for ws in workspaces] == [29, 21, 24, 62]


@pytest.mark.parametrize(
    "bad", ["a/b", "a:b", "a@b", "*", "a\n", "\x85", "client-http-x", "", "x" * 256, "é" * 128, "\ud800", None, 7]
)
def test_client_ids_that_would_be_ambiguous_are_refused(bad: object) -> None:
    with pytest.raises(BadRequest):
        check_client_id(bad)


@pytest.mark.parametrize("good", ["a b", "a.b", "a>b", "x" * 255, "é|ü", "_rapp_x__rlb"])
def test_other_client_ids_are_accepted(good: str) -> None:
    assert check_client_id(good) == good


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("svc", "mine/*:svc@*"),
        ("client:svc", "mine/client:svc@*"),
        ("ws/svc", "ws/*:svc@*"),
        ("ws/client:svc@app", "ws/client:svc@app"),
        ("svc@app", "mine/*:svc@app"),
        ("~", "mine/*:~@*"),
    ],
)
def test_short_service_ids_are_completed(short: str, full: str) -> None:
    """Contract 01 §3.7."""
    assert str(ServiceId.parse(short, default_workspace="mine")) == full


@pytest.mark.parametrize("bad", ["a/b/c", "a:b:c", "a@b@c", "", "/svc", "ws/", "ws/c:", "svc@"])
def test_malformed_service_ids_are_refused(bad: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ServiceId.parse(bad, default_workspace="mine")
    assert caught.value.rpc_type == "AssertionError"


def test_addresses() -> None:
    assert Address.parse("ws/c") == Address("ws", "c")
    assert Address.parse("c", default_workspace="ws") == Address("ws", "c")
    with pytest.raises(BadRequest):
        Address.parse("c")


def test_roles_have_stable_addresses() -> None:
    assert role_of("*", "manager-anything") == "workspace"
    assert role_of("public", "hypha-auth") == "auth"
    assert role_of("ws-user-root", "hypha-workspace") == "workspace"
    assert role_of("ws-user-x", "hypha-auth") is None
