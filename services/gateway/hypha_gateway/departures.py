from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

import structlog

from hypha_common.bus import Bus
from hypha_common.errors import HyphaError
from hypha_common.ids import Address
from hypha_common.subjects import partition_of, role_verb

__all__ = ["Departures"]

log = structlog.get_logger(__name__)

_CONCURRENT = 32
_RETRY_S = 0.5
_REMEMBERED = 1000


class Departures:
    """
    Reports ended connections to the registry, again and again until it has heard.

    A gateway that dies with reports untold is found out by its lease.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._untold: OrderedDict[tuple[Address, int], str] = OrderedDict()
        self._told: deque[tuple[Address, int, str]] = deque(maxlen=_REMEMBERED)
        self._wake = asyncio.Event()
        self._all_told = asyncio.Event()
        self._all_told.set()

    def __len__(self) -> int:
        return len(self._untold)

    def report(self, address: Address, generation: int, reason: str) -> None:
        self._untold[address, generation] = reason
        self._all_told.clear()
        self._wake.set()

    def tell_again(self) -> None:
        """Repeat the latest reports: a connection that was being announced anew when it ended may have come back."""
        for address, generation, reason in tuple(self._told):
            self.report(address, generation, reason)

    async def told(self, timeout: float) -> None:
        """Wait until every report has been heard, at most ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._all_told.wait()
        except TimeoutError:
            log.warning("departures_untold", count=len(self._untold))

    async def run(self) -> None:
        """Tell the registry; runs for the life of the gateway."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._untold:
                batch = list(self._untold.items())[:_CONCURRENT]
                told = await asyncio.gather(*(self._tell(*key, reason) for key, reason in batch))
                if not any(told):
                    await asyncio.sleep(_RETRY_S)
            self._all_told.set()

    async def _tell(self, address: Address, generation: int, reason: str) -> bool:
        message = {
            "workspace": address.workspace,
            "client_id": address.client,
            "generation": generation,
            "reason": reason,
        }
        try:
            await self._bus.request(
                role_verb("workspace", partition_of(address.workspace), "disconnect"), message, timeout=3.0
            )
        except HyphaError as error:
            log.info("departure_not_told", error=str(error))
            return False
        self._untold.pop((address, generation), None)
        self._told.append((address, generation, reason))
        return True
