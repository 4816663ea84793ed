from __future__ import annotations

from typing import Any

import pytest

from hypha_apps.app import App
from hypha_apps.starting import StartOptions, StartRequest
from hypha_common.errors import BadRequest
from hypha_common.principal import Principal


def options(manifest: dict[str, Any] | None = None, **request: Any) -> StartOptions:
    app = App("ws", "app", manifest or {}, "v0", False, "somebody")
    return StartOptions.of(app, StartRequest(Principal(id="somebody"), **request))


def test_defaults() -> None:
    found = options()
    assert (found.timeout_s, found.wait_for, found.stop_after_inactive) == (60, "default", 600)
    assert found.exclusive


def test_what_is_asked_for_wins_over_the_manifest() -> None:
    configured = {
        "timeout": 5,
        "wait_for_service": "a",
        "stop_after_inactive": 0,
        "additional_kwargs": {"x": 1, "y": 1},
    }
    found = options({"startup_config": configured}, timeout=7, additional_kwargs={"y": 2})
    assert (found.timeout_s, found.wait_for, found.stop_after_inactive) == (7, "a", 0)
    assert found.additional == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, "default"), (True, "default"), (False, None), ("", ""), ("svc", "svc"), ("ws/client:svc@app", "svc")],
)
def test_what_is_waited_for(asked: Any, expected: str | None) -> None:
    assert options(wait_for_service=asked).wait_for == expected
    assert options({"startup_config": {"wait_for_service": asked}}).wait_for == expected


@pytest.mark.parametrize(
    ("manifest", "exclusive"),
    [
        ({"daemon": True}, False),
        ({"autoscaling": {"enabled": True}}, False),
        ({"autoscaling": {"enabled": False}}, True),
        ({"daemon": True, "singleton": True}, True),
    ],
)
def test_who_gives_way_to_an_instance_that_runs(manifest: dict[str, Any], exclusive: bool) -> None:
    assert options(manifest).exclusive is exclusive


@pytest.mark.parametrize(
    "request_",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "60"},
        {"timeout": True},
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"wait_for_service": 3},
        {"stop_after_inactive": 9.9},
        {"stop_after_inactive": -1},
        {"stop_after_inactive": "600"},
        {"stop_after_inactive": float("nan")},
        {"additional_kwargs": ["x"]},
        {"additional_kwargs": {"token": "x"}},
    ],
)
def test_what_cannot_be_is_refused(request_: dict[str, Any]) -> None:
    """Whether it is asked for or configured."""
    with pytest.raises(BadRequest):
        options(**request_)
    with pytest.raises(BadRequest):
        options({"startup_config": request_})


def test_daemon_is_not_stopped_for_inactivity() -> None:
    assert options({"daemon": True}).stop_after_inactive == 0
    assert options({"daemon": True}, stop_after_inactive=0).stop_after_inactive == 0
    with pytest.raises(BadRequest, match="Daemon apps should not have stop_after_inactive set"):
        options({"daemon": True}, stop_after_inactive=60)


def test_startup_config_that_is_none_is_refused() -> None:
    with pytest.raises(BadRequest, match="startup_config must be a map"):
        options({"startup_config": "fast"})
