from __future__ import annotations

from hypha_common.readings import Sizes

__all__ = ["SAMPLED", "Traffic"]

SAMPLED = 64  # of so many frames one is timed


class Traffic:
    """
    The frames that a gateway has moved, counted where each costs tens of nanoseconds; see ``readings``.

    """

    __slots__ = ("broadcast", "bus", "calls", "frames", "from_bus", "from_role", "local", "role", "sizes")

    def __init__(self) -> None:
        self.frames = 0  # all that clients sent
        # By where they went …
        self.local = 0
        self.bus = 0
        self.role = 0
        self.broadcast = 0
        # … and what came for clients from elsewhere.
        self.from_bus = 0
        self.from_role = 0
        self.calls = 0  # of clients to each other, that ask for an answer
        self.sizes = Sizes(first_bits=6, last_bits=27)
