from __future__ import annotations

import pytest

from hypha_common.bus import Bus
from hypha_common.errors import PayloadTooLarge, Unavailable
from hypha_common.ids import new_id


async def test_a_subject_that_is_too_long(nats_url: str) -> None:
    """NATS would hang up on whoever sends it, so it is refused here and the connection stays."""
    bus = Bus(urls=[nats_url], role="gateway", instance=new_id(8), on_fatal=pytest.fail)
    await bus.connect()
    try:
        for subject, reply in (("x" * 5000, ""), ("x" * 2000, "y" * 2000)):
            with pytest.raises(PayloadTooLarge):
                bus.publish(subject, b"", reply=reply)
        with pytest.raises(PayloadTooLarge):
            await bus.request("x" * 5000, {})
        await bus.flush()
        with pytest.raises(Unavailable):  # nobody serves it
            await bus.request("x" * 3000, {})
        assert bus.is_connected
    finally:
        await bus.close()
