"""
How many instances of an app there should be: pure, so that it can be tried with any load at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["Action", "Scaling", "Situation", "decide"]

_MAX_INSTANCES = 1000


class Action(StrEnum):
    """What to do next, one instance at a time."""

    REFILL = "refill"  # start one: fewer run than must
    UP = "up"  # start one: they have much to do
    DOWN = "down"  # stop the one that has the least to do


@dataclass(frozen=True, slots=True)
class Scaling:
    """The manifest's ``autoscaling`` (contract 03 §6.4); loads are messages a minute of one instance."""

    min_instances: int = 1
    max_instances: int = 10
    target_load: float = 100.0
    up_threshold: float = 0.9  # of the target
    down_threshold: float = 0.3
    up_cooldown_s: float = 300.0
    down_cooldown_s: float = 600.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Scaling:
        """Read a configuration; what it does not say has its default. Raises BadRequest."""
        default = cls()
        scaling = cls(
            _whole(config, "min_instances", default.min_instances, least=0),
            _whole(config, "max_instances", default.max_instances, least=1),
            _number(config, "target_requests_per_instance", default.target_load),
            _number(config, "scale_up_threshold", default.up_threshold),
            _number(config, "scale_down_threshold", default.down_threshold),
            _number(config, "scale_up_cooldown", default.up_cooldown_s),
            _number(config, "scale_down_cooldown", default.down_cooldown_s),
        )
        if scaling.min_instances > scaling.max_instances:
            raise BadRequest("autoscaling: min_instances must not be greater than max_instances")
        if not scaling.target_load > 0:
            raise BadRequest("autoscaling: target_requests_per_instance must be greater than 0")
        if scaling.down_threshold >= scaling.up_threshold:
            raise BadRequest("autoscaling: scale_down_threshold must be less than scale_up_threshold")
        return scaling


@dataclass(frozen=True, slots=True)
class Situation:
    """
    What is known of the instances of an app.

    ``loads``: of each that runs; None where no gateway has told lately. ``changing``: how many start or stop.
    ``engaged``: it has been started, and not been stopped on purpose. The times are seconds since it was last scaled.

    """

    loads: Sequence[float | None]
    changing: int = 0
    engaged: bool = True
    since_up_s: float = float("inf")
    since_down_s: float = float("inf")


def decide(scaling: Scaling, now: Situation) -> Action | None:
    """Return what to do next; None: nothing."""
    count = len(now.loads)
    if now.changing:
        return None  # what this does to the others' load is not seen yet
    if not count and not now.engaged:
        return None
    if count < scaling.min_instances:
        return Action.REFILL
    known = [load for load in now.loads if load is not None]
    if not known or len(known) < count:
        return None
    mean = sum(known) / count
    if mean > scaling.up_threshold * scaling.target_load:
        room = count < scaling.max_instances
        return Action.UP if room and now.since_up_s >= scaling.up_cooldown_s else None
    if mean < scaling.down_threshold * scaling.target_load and count > max(1, scaling.min_instances):
        # Not soon after there was much to do, either: what was just started is not stopped again.
        return Action.DOWN if min(now.since_up_s, now.since_down_s) >= scaling.down_cooldown_s else None
    return None


def _whole(config: Mapping[str, Any], name: str, default: int, *, least: int) -> int:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MAX_INSTANCES:
        raise BadRequest(f"autoscaling: {name} must be a whole number from {least} to {_MAX_INSTANCES}")
    return value


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise BadRequest(f"autoscaling: {name} must be a number, 0 or more")
    return float(value)
