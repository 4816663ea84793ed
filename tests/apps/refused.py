from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.cluster.raw_client import knock

__all__ = ["is_refused"]


async def is_refused(url: str, config: Mapping[str, Any]) -> bool:
    """Tell whether an instance, started with ``config``, is kept from connecting because its token was ended."""
    hello = {name: config[name] for name in ("token", "workspace", "client_id")}
    return (await knock(url, hello)).reason.endswith("Token has been revoked")
