from __future__ import annotations

import asyncio
import re
import secrets

import pytest

from hypha_common import trace

_ID, _SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (f"00-{_ID}-{_SPAN}-01", "01"),
        (f"00-{_ID}-{_SPAN}-00", "00"),
        (f"00-{_ID}-{_SPAN}-ff", "01"),  # of the flags only the first bit is known
        (f"00-{_ID}-{_SPAN}-02", "00"),
        (f"01-{_ID}-{_SPAN}-01", "01"),  # a version to come is read as far as it is known
        (f"cc-{_ID}-{_SPAN}-01-what-the-future-brings", "01"),
        (f"cc-{_ID}-{_SPAN}-01-", "01"),
    ],
)
def test_valid(text: str, flags: str) -> None:
    assert trace.parse(text) == f"00-{_ID}-{_SPAN}-{flags}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{_ID}-{_SPAN}",
        f"00-{_ID}-{_SPAN}-1",
        f"00-{_ID}-{_SPAN}-01-more",
        f"00-{_ID}-{_SPAN}-01-",
        f"cc-{_ID}-{_SPAN}-01.more",
        f"cc-{_ID}-{_SPAN}-0100",
        f"ff-{_ID}-{_SPAN}-01",
        f"00-{_ID.upper()}-{_SPAN}-01",
        f"00-{'0' * 32}-{_SPAN}-01",
        f"00-{_ID}-{'0' * 16}-01",
        f"0g-{_ID}-{_SPAN}-01",
        f"00-{_ID[:-1]}٠-{_SPAN}-01",
        f"00-{_ID}-{_SPAN}-0x",
        f" 00-{_ID}-{_SPAN}-01",
        f"00-{_ID}-{_SPAN}-01\n",
        f"cc-{_ID}-{_SPAN}-01-{'x' * 1000}",
    ],
)
def test_invalid(text: str) -> None:
    assert trace.parse(text) is None
    assert trace.trace_id(trace.incoming(text)) not in ("", _ID)


def test_new_ids() -> None:
    """They are valid, differ, and are not recorded while nobody records."""
    made = {trace.new() for _ in range(1000)}
    assert len(made) == 1000
    assert all(trace.parse(context) == context and not trace.is_sampled(context) for context in made)


def test_strangers_do_not_decide() -> None:
    """The id is taken over, whether it is recorded is not."""
    context = trace.incoming(f"00-{_ID}-{_SPAN}-01")
    assert (trace.trace_id(context), trace.is_sampled(context)) == (_ID, False)


async def test_context() -> None:
    """Tasks inherit what was current when they were started, and nothing else does."""
    assert (trace.current(), trace.trace_id()) == ("", "")
    context = trace.new()
    token = trace.enter(context)

    async def seen() -> str:
        await asyncio.sleep(0)
        return trace.current()

    task = asyncio.create_task(seen())
    trace.leave(token)
    assert await task == context
    assert trace.current() == ""
    for strange in (None, 5, "", "x"):
        token = trace.enter(strange)
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", trace.current())
        trace.leave(token)


def test_fuzz() -> None:
    """Whatever comes, what is passed on is valid."""
    for _ in range(2000):
        text = secrets.token_bytes(secrets.randbelow(80)).decode("latin-1")
        assert trace.parse(trace.incoming(text)) is not None
        mutated = list(f"00-{_ID}-{_SPAN}-01")
        mutated[secrets.randbelow(len(mutated))] = chr(secrets.randbelow(256))
        context = trace.incoming("".join(mutated))
        assert trace.parse(context) == context
