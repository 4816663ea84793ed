"""
The modes by which one of several providers is chosen (contract 01 §3.8). Nothing here does I/O.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from hypha_common.errors import BadRequest
from hypha_common.ids import PUBLIC_WORKSPACE

__all__ = ["Mode", "best", "is_load_balanced", "least_loaded", "native_or_any", "read_mode"]

Kind = Literal["exact", "random", "first", "last", "native:random", "min_load", "select"]
Criteria = Literal["min", "max", "first_success"]

T = TypeVar("T")

_PLAIN: dict[str, Kind] = {
    "exact": "exact",
    "random": "random",
    "first": "first",
    "last": "last",
    "native:random": "native:random",
    "min_load": "min_load",
}
_CRITERIA: dict[str, Criteria] = {"min": "min", "max": "max", "first_success": "first_success"}
_FUNCTION = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*", re.ASCII)
_LOAD_BALANCED_SUFFIX = "__rlb"


@dataclass(frozen=True, slots=True)
class Mode:
    """A parsed mode; ``criteria`` and ``function`` belong to ``select``."""

    kind: Kind
    criteria: Criteria | None = None
    function: str = ""


def read_mode(mode: object, *, workspace: str) -> Mode:
    """Parse a mode; None means ``random`` in workspace ``public`` and ``exact`` elsewhere. Raises BadRequest."""
    if mode is None:
        return Mode("random" if workspace == PUBLIC_WORKSPACE else "exact")
    if isinstance(mode, str):
        if mode in _PLAIN:
            return Mode(_PLAIN[mode])
        if mode.startswith("select:"):
            return _read_select(mode)
    raise BadRequest(
        f"Invalid mode: {mode}. Mode must be 'random', 'first', 'last', 'exact', 'min_load', 'native:random', "
        "or 'select:criteria:function' format (e.g., 'select:min:get_load')"
    )


def _read_select(mode: str) -> Mode:
    parts = mode.split(":")
    if len(parts) != 3 or not _FUNCTION.fullmatch(parts[2]):
        raise BadRequest(f"Invalid select mode format: {mode}. It must be 'select:criteria:function'")
    if parts[1] not in _CRITERIA:
        raise BadRequest(f"Invalid selection criteria: {parts[1]}. It must be 'min', 'max' or 'first_success'")
    return Mode("select", _CRITERIA[parts[1]], parts[2])


def native_or_any(candidates: Sequence[tuple[T, str]], gateway: str) -> T:
    """Choose among (candidate, its gateway) at random, those of the caller's own gateway first."""
    native = [candidate for candidate, at in candidates if gateway and at == gateway]
    return random.choice(native or [candidate for candidate, _ in candidates])


def is_load_balanced(client_id: str) -> bool:
    """Tell whether the requests to a client are counted."""
    return client_id.endswith(_LOAD_BALANCED_SUFFIX)


def least_loaded(candidates: Sequence[tuple[T, str]], load: Mapping[str, float]) -> T:
    """Choose the least loaded of (candidate, its address), any of them where several are; unknown is 0."""
    lowest = min(load.get(address, 0.0) for _, address in candidates)
    return random.choice([candidate for candidate, address in candidates if load.get(address, 0.0) == lowest])


def best(answers: Sequence[tuple[T, Any]], criteria: Criteria) -> T | None:
    """Choose by what the candidates answered; answers that are no number are passed over, None where none is left."""
    if criteria == "first_success":
        return answers[0][0] if answers else None
    scored = [(candidate, value) for candidate, answer in answers if (value := _number(answer)) is not None]
    if not scored:
        return None
    choose = min if criteria == "min" else max
    return choose(scored, key=lambda pair: pair[1])[0]


def _number(answer: Any) -> float | None:
    try:
        value = float(answer)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(value) else value
