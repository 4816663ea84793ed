from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_common.errors import BadRequest
from hypha_common.principal import Permission, Scope
from hypha_common.scopes import app_of, app_scope, check_extra_scopes, format_scope, is_specialized, parse_scope

NAMES = st.text(min_size=1, max_size=30)
EXTRA = NAMES.filter(lambda word: not any(c.isspace() for c in word) and not word.startswith(("ws:", "wid:", "cid:")))
GRANTS = st.dictionaries(NAMES, st.sampled_from([Permission.READ, Permission.READ_WRITE, Permission.ADMIN]), max_size=4)
SCOPES = st.builds(
    Scope,
    workspaces=GRANTS,
    current_workspace=st.none() | NAMES,
    client_id=st.none() | NAMES,
    extra_scopes=st.lists(EXTRA, max_size=3).map(tuple),
)


@given(SCOPES)
def test_every_scope_survives_the_claim(scope: Scope) -> None:
    """Ids with blanks, percent signs, hashes or newlines neither get lost nor become other words."""
    assert parse_scope(format_scope(scope)) == scope


def test_contract_form() -> None:
    """The claim of another implementation reads the same (contract 01 §10.1)."""
    scope = parse_scope("ws:ws-user-a#a  cid:raw1 wid:ws-user-a openid")
    assert scope == Scope({"ws-user-a": Permission.ADMIN}, "ws-user-a", "raw1", ("openid",))
    assert format_scope(scope) == "ws:ws-user-a#a cid:raw1 wid:ws-user-a openid"


def test_maximum_over_grants() -> None:
    """A workspace that is named twice has the stronger permission, in either order."""
    assert parse_scope("ws:x#rw ws:x#r").workspaces == {"x": Permission.READ_WRITE}
    assert parse_scope("ws:x#r ws:x#rw").workspaces == {"x": Permission.READ_WRITE}


@pytest.mark.parametrize("text", ["ws:x", "ws:x#z", "ws:#a", "ws:x#"])
def test_bad_grants_are_refused(text: str) -> None:
    """A grant that cannot be understood is not skipped."""
    with pytest.raises(BadRequest):
        parse_scope(text)


@pytest.mark.parametrize("word", ["ws:other#a", "wid:other", "cid:x", "a b", "a\nws:other#a", "", 5])
def test_extra_scopes_cannot_smuggle_grants(word: object) -> None:
    """What a caller names an extra scope never reads as a grant or a binding."""
    with pytest.raises(BadRequest):
        check_extra_scopes([word])
    with pytest.raises(BadRequest):
        format_scope(Scope(extra_scopes=(word,)))  # type: ignore[arg-type]


@given(NAMES)
def test_app_of_an_instance(app: str) -> None:
    """Whatever the app is called, its instances are known by it, may do what others may, and make no others."""
    scope = parse_scope(format_scope(Scope({"ws": Permission.READ_WRITE}, "ws", "c", (app_scope(app),))))
    assert app_of(scope.extra_scopes) == app
    assert not is_specialized(scope.extra_scopes)
    with pytest.raises(BadRequest, match="Invalid extra scope: app:"):
        check_extra_scopes(scope.extra_scopes)


def test_specialized() -> None:
    """A colon makes a scope one that only some endpoints ask for."""
    assert is_specialized(("openid", "file:download"))
    assert not is_specialized(("openid",))
    assert not is_specialized(None)
    assert is_specialized((app_scope("my-app"), "file:download"))
    assert app_of(None) is app_of(("openid",)) is None
