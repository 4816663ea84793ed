from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypha_common.ids import Address, ServiceId
from hypha_common.service_tree import find_in_service, is_function

__all__ = ["Worker"]


@dataclass(frozen=True, slots=True)
class Worker:
    """A service of type ``server-app-worker``, as its own client describes it (contract 03 §2.1)."""

    service_id: ServiceId
    name: str
    description: str
    supported_types: tuple[str, ...]
    use_local_url: bool | str
    encoded: Mapping[str, Any]  # the service in wire form

    @property
    def id(self) -> str:
        """The full id: ``workspace/client:service``."""
        return self.service_id.full

    @property
    def address(self) -> Address:
        return Address(self.service_id.workspace, self.service_id.client)

    def has(self, function: str) -> bool:
        """Tell whether it offers an optional function, such as ``compile``."""
        return is_function(find_in_service(self.encoded, function)[1])

    @classmethod
    def of(cls, service_id: ServiceId, encoded: Mapping[str, Any]) -> Worker:
        """Read what a client answered; whatever is malformed counts as absent."""
        types = encoded.get("supported_types")
        local = encoded.get("use_local_url")
        return cls(
            service_id,
            str(encoded.get("name") or service_id.service),
            str(encoded.get("description") or ""),
            tuple(kind for kind in types if isinstance(kind, str)) if isinstance(types, list) else (),
            local if isinstance(local, (bool, str)) else False,
            encoded,
        )
