from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_signals(callback: Callable[[], object]) -> Iterator[None]:
    """
    Call ``callback`` in the event loop when the process is told to stop, before whoever serves us acts on it.

    ASGI servers tell an application only when its last request has been answered, and streams last. Does nothing where
    the server handles signals in another way than by a Python function, or runs beside the main thread.

    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    chained = {}
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler:
            chained[number] = handler

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        chained[signal.Signals(number)](number, frame)

    for number in chained:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in chained.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
