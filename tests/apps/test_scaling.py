"""How many instances there should be, with any load at any time."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hypha_apps.keeping.scaling import Action, Scaling, Situation, decide
from hypha_apps.sources.manifests import complete_manifest
from hypha_common.errors import BadRequest

_LOADS = st.lists(st.floats(0, 1e6), max_size=12)
_TIMES = st.floats(0, 2000)


@st.composite
def scalings(draw: st.DrawFn, *, calm: bool = False) -> Scaling:
    least = draw(st.integers(0, 5))
    up = draw(st.floats(0.1, 2))
    return Scaling(
        min_instances=least,
        max_instances=draw(st.integers(max(1, least), 12)),
        target_load=draw(st.floats(1, 1000)),
        up_threshold=up,
        down_threshold=draw(st.floats(0, up / 2 if calm else up * 0.99)),
        up_cooldown_s=draw(st.floats(0, 1000)),
        down_cooldown_s=draw(st.floats(0, 1000)),
    )


@given(scalings(), _LOADS, _TIMES, _TIMES, st.booleans())
def test_limits_and_cooldowns_hold(scaling: Scaling, loads: list[float], up: float, down: float, engaged: bool) -> None:
    action = decide(scaling, Situation(loads, engaged=engaged, since_up_s=up, since_down_s=down))
    count = len(loads)
    if action is Action.REFILL:
        assert count < scaling.min_instances
        assert count or engaged
    if action is Action.UP:
        assert count < scaling.max_instances
        assert up >= scaling.up_cooldown_s
        assert sum(loads) / count > scaling.up_threshold * scaling.target_load
    if action is Action.DOWN:
        assert count > max(1, scaling.min_instances)
        assert min(up, down) >= scaling.down_cooldown_s
        assert sum(loads) / count < scaling.down_threshold * scaling.target_load


@given(scalings(), _LOADS)
def test_what_is_lost_is_replaced(scaling: Scaling, loads: list[float]) -> None:
    assume(len(loads) < scaling.min_instances)
    assert decide(scaling, Situation(loads)) is Action.REFILL
    assert decide(scaling, Situation(loads, since_up_s=0, since_down_s=0)) is Action.REFILL


@given(scalings(), _LOADS, st.integers(1, 3))
def test_nothing_is_decided_while_something_changes(scaling: Scaling, loads: list[float], changing: int) -> None:
    assert decide(scaling, Situation(loads, changing)) is None


@given(scalings(), _LOADS, st.data())
def test_what_nobody_tells_of_moves_nothing(scaling: Scaling, loads: list[float], data: st.DataObject) -> None:
    known: list[float | None] = [*loads, None]
    assume(len(known) >= scaling.min_instances)
    assert decide(scaling, Situation(data.draw(st.permutations(known)))) is None


@given(scalings(calm=True), st.floats(0, 1e6), st.integers(1, 12))
def test_a_steady_load_comes_to_rest(scaling: Scaling, load: float, count: int) -> None:
    """Where one threshold is at most half of the other; a load that instances share evenly."""
    for _ in range(30):
        action = decide(scaling, Situation([load / count] * count))
        if action is None:
            break
        count += -1 if action is Action.DOWN else 1
    else:
        pytest.fail("it goes up and down for ever")
    mean = load / count
    assert mean <= scaling.up_threshold * scaling.target_load * (1 + 1e-9) or count >= scaling.max_instances
    assert mean >= scaling.down_threshold * scaling.target_load * (1 - 1e-9) or count <= max(1, scaling.min_instances)


def test_one_that_was_stopped_on_purpose_stays_so() -> None:
    scaling = Scaling(min_instances=2)
    assert decide(scaling, Situation([], engaged=False)) is None
    assert decide(scaling, Situation([], engaged=True)) is Action.REFILL
    assert decide(scaling, Situation([0.0], engaged=False)) is Action.REFILL


def test_a_configuration_is_completed() -> None:
    assert Scaling.of({"enabled": True}) == Scaling(1, 10, 100, 0.9, 0.3, 300, 600)
    unused = {"target_load_per_instance": 0.8, "metric_type": "load", "custom_metric_function": "f"}
    assert Scaling.of({"max_instances": 3, "scale_up_cooldown": 5, **unused}) == Scaling(
        max_instances=3, up_cooldown_s=5
    )


@pytest.mark.parametrize(
    ("config", "fragment"),
    [
        ({"min_instances": -1}, "min_instances must be"),
        ({"min_instances": 1.5}, "min_instances must be"),
        ({"max_instances": 0}, "max_instances must be"),
        ({"max_instances": True}, "max_instances must be"),
        ({"min_instances": 3, "max_instances": 2}, "must not be greater"),
        ({"min_instances": 11}, "must not be greater"),
        ({"target_requests_per_instance": 0}, "greater than 0"),
        ({"target_requests_per_instance": "many"}, "must be a number"),
        ({"scale_up_threshold": math.inf}, "must be a number"),
        ({"scale_down_threshold": 0.9}, "less than"),
        ({"scale_up_cooldown": -1}, "must be a number"),
    ],
)
def test_what_cannot_be_is_refused(config: dict[str, object], fragment: str) -> None:
    with pytest.raises(BadRequest, match=fragment):
        Scaling.of(config)
    with pytest.raises(BadRequest, match=fragment):
        complete_manifest({"name": "app", "autoscaling": config})
