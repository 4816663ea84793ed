from __future__ import annotations

import inspect
from collections.abc import Iterator

from hypha_common import errors as module
from hypha_common.errors import ConfigurationError, HyphaError

from .markdown import cell, code, prose, sentence, table

__all__ = ["errors"]


def errors() -> str:
    """The errors that processes of the cluster tell each other and their callers."""
    rows = [
        (code(kind.code), str(kind.status), code(kind.rpc_type), cell(sentence(_meaning(kind))))
        for kind in sorted(_kinds(), key=lambda kind: (kind.status, kind.code))
    ]
    return table(["code", "HTTP status", "type over RPC", "meaning"], rows)


def _kinds() -> Iterator[type[HyphaError]]:
    codes = set()
    for kind in vars(module).values():
        told = inspect.isclass(kind) and issubclass(kind, HyphaError) and kind not in (HyphaError, ConfigurationError)
        if told and kind.code not in codes:  # a subclass without a code of its own is told as its base
            codes.add(kind.code)
            yield kind


def _meaning(kind: type[HyphaError]) -> str:
    return prose(vars(kind).get("__doc__") or kind.code.replace("_", " "))
