from __future__ import annotations

import inspect

from hypha_common import subjects as module
from hypha_common.bus_permissions import USERS, permissions_of

from .markdown import cell, code, prose, table

__all__ = ["permissions", "subjects"]

# What stands for each parameter in the examples.
_EXAMPLES = {
    "workspace": "ws-user-ada",
    "client": "laptop",
    "role": "workspace",
    "partition": "7",
    "verb": "connect",
    "instance": "k3f9",
    "owner": "k3f9",
    "gateway": "k3f9",
    "topic": "revoked",
}


def subjects() -> str:
    """Every kind of subject, with an example made by the function that makes them all."""
    rows = []
    for name in module.__all__:
        function = getattr(module, name)
        if inspect.isfunction(function) and set(inspect.signature(function).parameters) <= set(_EXAMPLES):
            subject = function(
                **{parameter: _EXAMPLES[parameter] for parameter in inspect.signature(function).parameters}
            )
            if isinstance(subject, str) and subject.startswith("hy."):
                rows.append((code(subject), cell(prose(inspect.getdoc(function) or "")), code(name)))
    return table(["for example", "carries", "made by"], rows)


def permissions() -> str:
    """What each user at NATS may publish and hear; everything else is refused."""
    rows = [
        (code(user), kind, "<br>".join(map(code, allowed)))
        for user in USERS
        for kind, allowed in (("publish", permissions_of(user).publish), ("subscribe", permissions_of(user).subscribe))
    ]
    return table(["user", "may", "subjects"], rows)
