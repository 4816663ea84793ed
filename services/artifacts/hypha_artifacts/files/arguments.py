from __future__ import annotations

import math

from hypha_artifacts.blobs import check_path
from hypha_common.errors import BadRequest, NotSupported

__all__ = ["as_count", "as_folder", "as_part_count", "as_paths", "as_weight", "as_weights", "check_branch"]

MAX_PARTS = 10_000
_MAX_PATHS = 10_000


def as_count(name: str, value: object, *, most: int, least: int = 0) -> int:
    """Return a whole number; over HTTP it may be text. Raises BadRequest."""
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"{name} must be a whole number between {least} and {most}, not {value!r}")
    return value


def as_folder(value: object) -> str:
    """Return a normalized folder; None, ``.`` and ``/`` are the root, "". Raises BadRequest."""
    return "" if value is None else check_path(value, folder=True)


def as_paths(value: object) -> list[tuple[str, str]]:
    """Return paths, one or a list of them, as given and normalized. Raises BadRequest."""
    if isinstance(value, str):
        return [(value, check_path(value))]
    if not isinstance(value, (list, tuple)):
        raise BadRequest(f"file_path must be text or a list of it, not {type(value).__name__}")
    if not value:
        raise BadRequest("file_path list must contain at least one path")
    if len(value) > _MAX_PATHS:
        raise BadRequest(f"file_path list must not contain more than {_MAX_PATHS} paths")
    return [(path, check_path(path)) for path in value]


def as_part_count(value: object) -> int:
    """Return into how many parts a file is cut. Raises BadRequest."""
    count = as_count("part_count", value, least=-(2**31), most=2**31)
    if count <= 0:
        raise BadRequest("Part count must be greater than 0")
    if count > MAX_PARTS:
        raise BadRequest("The maximum number of parts is 10,000.")
    return count


def as_weight(value: object, where: str = "") -> float:
    """Return a download weight; None is 0. Raises BadRequest."""
    if value is None:
        return 0.0
    try:
        weight = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        weight = math.nan
    if not math.isfinite(weight):
        raise BadRequest(f"Download weight must be a number: {value!r}{where}")
    if weight < 0:
        raise BadRequest(f"Download weight must be non-negative: {value}{where}")
    return weight


def as_weights(value: object, count: int) -> list[float]:
    """Return the download weights of ``count`` files: one for all, or a list. Raises BadRequest."""
    if not isinstance(value, (list, tuple)):
        return [as_weight(value)] * count
    if len(value) != count:
        raise BadRequest(f"download_weight list length ({len(value)}) must match file_path list length ({count})")
    return [as_weight(weight, f" at index {index}") for index, weight in enumerate(value)]


def check_branch(branch: object) -> None:
    """Raise NotSupported where a branch is meant: only git has them."""
    if branch not in (None, "", "main"):
        raise NotSupported("Branches belong to artifacts with config.storage='git', which this server does not offer.")
