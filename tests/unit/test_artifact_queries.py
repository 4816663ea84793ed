"""The SQL of listings of artifacts: made of our own words, whatever is asked for."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_artifacts.actor import Actor
from hypha_artifacts.listing.columns import Stage
from hypha_artifacts.listing.options import MAX_LIMIT, Options
from hypha_artifacts.listing.ordering import Order, parse_order
from hypha_artifacts.listing.patterns import keyword_pattern, like_pattern, wildcard_pattern
from hypha_artifacts.listing.statement import Place, Statement, compile_listing
from hypha_artifacts.permissions import LEVELS, levels_with
from hypha_artifacts.record import Artifact
from hypha_common.errors import BadRequest
from hypha_common.principal import Permission, Principal, Scope

# Letters that our own SQL has none of; some of them mean something in SQL, in patterns or in JSON.
FOREIGN = '\u00e9\u03b1\u4e2d\U0001f642\u02bc\u2028`;!"\\~^&'
texts = st.text(FOREIGN + "*%_'", min_size=1, max_size=12).filter(
    lambda text: any(letter in FOREIGN for letter in text)
)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
scalars = texts | numbers | st.booleans() | st.none()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
operators = st.fixed_dictionaries(
    {},
    optional={
        "$like": texts,
        "$in": st.lists(scalars, max_size=3),
        "$all": st.lists(documents, max_size=3),
        "$or": st.lists(scalars, max_size=3),
    },
)
plain = st.dictionaries(texts, documents | operators, max_size=3)
manifests = st.recursive(
    plain, lambda inner: st.fixed_dictionaries({}, optional={"$or": st.lists(inner, max_size=2)}), max_leaves=4
)
bounds = numbers | st.tuples(numbers | st.none(), numbers | st.none()).map(list)
filters = st.fixed_dictionaries(
    {},
    optional={
        "type": texts | st.none(),
        "alias": texts,
        "created_by": texts,
        "created_at": bounds,
        "view_count": bounds,
        "manifest": manifests,
        "config": st.fixed_dictionaries({"permissions": st.dictionaries(texts, documents, max_size=2)}),
    },
)
actors = st.builds(
    lambda name, email, parent, workspace, level, anonymous: Actor(
        Principal(name, email=email, parent=parent, is_anonymous=anonymous, scope=Scope({"ws": level})), workspace
    ),
    texts, texts | st.none(), texts | st.none(), texts, st.sampled_from(Permission), st.booleans(),
)  # fmt: skip
# Words, numbers of values, operators, and constants of ours between single quotes.
TOKENS = re.compile(
    r"""\s+|[a-z_]+|[A-Z]+|\$\d+|\d+|::|\[\]|[().,=<>#@?*-]|'[a-z_0-9{}]*'|'\{"private_children": true\}'"""
)


def artifact(**config: Any) -> Artifact:
    return Artifact(UUID(int=1), "ws", "parent", None, {}, config, "ada", 0, 0)


def compiled(**asked: Any) -> Statement:
    return compile_listing(Place("ws", artifact()), Options.of(**asked), Actor(Principal("ada"), "ws"))


@given(
    filters, st.lists(texts, max_size=3), st.sampled_from(("AND", "OR")), texts, st.sampled_from((True, False, "all")),
    actors, st.sampled_from(("ws", "roots", "parent", "inbox")), texts,
)  # fmt: skip
def test_nothing_that_a_caller_writes_is_in_the_statement(
    wanted: dict[str, Any], keywords: list[str], mode: str, order: str, stage: Any, actor: Actor, where: str, field: str
) -> None:
    parent = {"parent": artifact(), "inbox": artifact(private_children=True, recipient_field=field)}.get(where)
    options = Options.of(filters=wanted, keywords=keywords, mode=mode, order_by=order, stage=stage)
    statement = compile_listing(Place("ws", parent, where == "roots"), options, actor)
    for sql, values in (
        (statement.page, statement.page_values),
        (statement.total, statement.total_values),
    ):
        assert not set(sql) & set(FOREIGN) - {'"'}
        assert TOKENS.sub("", sql) == ""
        assert {int(number) for number in re.findall(r"\$(\d+)", sql)} == set(range(1, len(values) + 1))


@given(st.text(min_size=1, max_size=30), st.sampled_from(("", "manifest.", "config.", "-manifest.")))
def test_an_order_is_a_known_one(text: str, prefix: str) -> None:
    """A key of JSON is bound; everything else is one of ours."""
    sql, problem = "", "Invalid order_by field"
    try:
        sql = compiled(order_by=prefix + text).page
    except BadRequest as error:
        problem = str(error)
    assert TOKENS.sub("", sql) == ""
    assert problem.startswith("Invalid order_by field")


@pytest.mark.parametrize(
    ("text", "order"),
    [
        (None, Order()),
        ("", Order()),
        ("created_at", Order("created_at")),
        ("created_at<", Order("created_at")),
        ("created_at>", Order("created_at", None, True)),
        ("-created_at", Order("created_at", None, True)),
        ("-created_at<", Order("created_at")),
        ("manifest.name>", Order("manifest", "name", True)),
        ("-manifest.a.b-c", Order("manifest", "a.b-c", True)),
        ("config.rank", Order("config", "rank")),
        ("secrets", Order()),
        ("secrets.key", Order()),
        ("view_rank", Order()),
        ("a.id; DROP TABLE artifacts", Order()),
    ],
)
def test_orders(text: str | None, order: Order) -> None:
    assert parse_order(text) == order


@pytest.mark.parametrize("text", ["manifest.", "manifest.a b", "config.'", "manifest.a'b", "manifest.$1", 3, ["id"]])
def test_orders_that_are_none(text: object) -> None:
    with pytest.raises(BadRequest):
        parse_order(text)


def test_patterns() -> None:
    assert keyword_pattern(r"50%_\*") == r"%50\%\_\\*%"
    assert wildcard_pattern(r"a*%_\b*") == r"a%\%\_\\b%"
    assert like_pattern(r"a*%_\b") == r"a%%_\\b"


def test_options_as_text() -> None:
    options = Options.of(
        keywords="a, b,,", filters=' {"version": "stage", "type": "x"}', mode="or", offset="3", limit=" 7 ",
        pagination="true", stage="all",
    )  # fmt: skip
    assert (options.keywords, options.filters, options.mode) == (["a", "b"], {"type": "x"}, "OR")
    assert (options.offset, options.limit, options.pagination, options.stage) == (3, 7, True, Stage.DRAFTS)
    assert Options.of(stage="all").stage is Options.of(stage="ALL").stage is Stage.ALL
    assert Options.of(stage=None).stage is Options.of(stage="false").stage is Stage.COMMITTED
    assert Options.of(limit=5.0).limit == 5
    assert Options.of(limit=MAX_LIMIT).limit == MAX_LIMIT


def _nested(depth: int) -> Any:
    return [_nested(depth - 1)] if depth else 1


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": MAX_LIMIT + 1}, {"limit": -1}, {"limit": "-1"}, {"limit": "9" * 50}, {"limit": None}, {"limit": 1.5},
        {"limit": "\u00b2"}, {"offset": 2**40}, {"keywords": ["x"] * 51}, {"keywords": {"a": 1}},
        {"keywords": ["\ud800"]},
        {"filters": {"manifest": {"a": _nested(30)}}}, {"filters": {"manifest": {"a": list(range(6000))}}},
        {"filters": {"manifest": {"a": "x" * 100_000}}}, {"filters": {"manifest": {"a": 10**200}}},
        {"filters": {"manifest": {"a": b"bytes"}}}, {"filters": {3: "x"}}, {"filters": [1]}, {"filters": '{"a": NaN}'},
        {"filters": "[" * 100_000}, {"filters": {"manifest": {"a\0": 1}}},
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        Options.of(**asked)


def test_conditions_are_bounded() -> None:
    with pytest.raises(BadRequest, match="too many conditions"):
        compiled(filters={"manifest": {"$or": [{"a": n} for n in range(400)]}})


def test_levels_of_an_operation() -> None:
    for operation in ("list", "read", "draft", "nothing"):
        assert levels_with(operation) == [level for level in LEVELS if operation in LEVELS[level]]
    assert "n" not in levels_with("list")
