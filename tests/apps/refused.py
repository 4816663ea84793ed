from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.cluster.raw_client import knock

__all__ = ["LEFT_OPEN", "is_refused"]

# Marks of tests whose instances are turned away: hypha-rpc forgets the socket of one without closing it.
LEFT_OPEN = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("swept"),
]


async def is_refused(url: str, config: Mapping[str, Any]) -> bool:
    """Tell whether an instance, started with ``config``, is kept from connecting because its token was ended."""
    hello = {name: config[name] for name in ("token", "workspace", "client_id")}
    return (await knock(url, hello)).reason.endswith("Token has been revoked")
