"""The program that renders users' templates: what they may do there, and how they end that do something else."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from hypha_artifacts.views.rendering import Rendering
from hypha_common.errors import InternalError, Unavailable

VARIABLES = {"artifact": {"manifest": {"name": "<b>bold</b>", "tags": ["a", "b"]}}, "user": {"id": "somebody"}}


@pytest.fixture
async def rendering() -> AsyncIterator[Rendering]:
    rendering = Rendering()
    yield rendering
    await rendering.close()


async def failure(rendering: Rendering, source: str) -> str:
    with pytest.raises(InternalError, match=r"^Template rendering failed: ") as error:
        await rendering.render(source, VARIABLES)
    return str(error.value).removeprefix("Template rendering failed: ")


async def test_templates_are_templates(rendering: Rendering) -> None:
    """What is inserted is escaped; filters, loops, macros and tests are there."""
    source = """{% macro item(x) %}<li>{{ x|upper }}</li>{% endmacro %}<h1>{{ artifact.manifest.name }}</h1>
{%- for tag in artifact.manifest["tags"] if tag is string %}{{ item(tag) }}{% endfor %}{{ nothing }}ü"""
    page = await rendering.render(source, VARIABLES)
    assert page.decode() == "<h1>&lt;b&gt;bold&lt;/b&gt;</h1><li>A</li><li>B</li>ü"
    assert await rendering.render("{{ artifact|tojson }}|{{ 'a b'|wordwrap(1) }}", VARIABLES)
    assert await rendering.render("", {}) == b""


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ ('_'*2 ~ 'class' ~ '_'*2)|attr('x') }}{{ ''|attr('_'*2 ~ 'class' ~ '_'*2) }}",
        "{{ [''|attr]|map('attr', '__class__')|list }}",
        "{{ ['']|map(attribute='__class__')|list }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'] }}",
        "{{ range.__self__ }}",
        "{{ dict.mro() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
        "{{ '{x.__class__.__mro__}'.format_map({'x': cycler}) }}",
        "{{ ('%s'|format(cycler)).__class__ }}",
        "{{ (cycler|attr('format'))('{0.__class__}') }}",
        "{{ ('{0.__class__}'|attr('format'))(cycler) }}",
        "{{ (1).real.__class__ }}",
        "{{ caller.gi_frame }}{{ (artifact.items()).gi_frame.f_builtins }}",
        "{% set x = artifact.__setitem__('a', 1) %}{{ x }}",
        "{{ artifact.update({'a': 1}) }}",
        "{{ artifact.manifest.tags.append('c') }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'page.html' %}",
    ],
)
async def test_nothing_leads_out_of_a_template(rendering: Rendering, source: str) -> None:
    """Either it is refused, or there is nothing to see: no object of Python, no file, no module."""
    try:
        page = await rendering.render(source, VARIABLES)
    except InternalError:
        return
    for trace in (b"class", b"builtin", b"object", b"module", b"root:", b"uid="):
        assert trace not in page, page


async def test_what_is_wrong_is_told(rendering: Rendering) -> None:
    assert await failure(rendering, "a\n{% if %}") == "line 2: Expected an expression, got 'end of statement block'"
    assert "'nothing' is undefined" in await failure(rendering, "{{ nothing.at.all }}")
    assert "no loader" in await failure(rendering, "{% include 'other.html' %}")
    assert len(await failure(rendering, "{{ nothing['" + "x" * 2000 + "'].y.z }}")) < 600
    assert "division by zero" in await failure(rendering, "{{ 1 / 0 }}")


async def test_too_much_is_refused(rendering: Rendering) -> None:
    """Of memory, of output, of recursion."""
    assert "memory" in await failure(rendering, "{{ ('x' * 10**9)|length }}")
    assert "larger than 8388608 bytes" in await failure(
        rendering, "{% for i in range(90000) %}{{ 'x' * 100 }}{% endfor %}"
    )
    assert await failure(rendering, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")
    assert await failure(rendering, "{{ range(10**9) }}")
    assert await rendering.render("fine", {}) == b"fine"


async def test_loops_without_end_are_ended(rendering: Rendering) -> None:
    """Meanwhile others are rendered; nothing of it goes on."""
    started = time.monotonic()
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}"
    endless = asyncio.create_task(failure(rendering, loops))
    assert await rendering.render("{{ 1 + 1 }}", {}) == b"2"
    assert time.monotonic() - started < 4
    assert "too long" in await endless
    assert time.monotonic() - started < 9
    assert rendering._program is not None
    async with asyncio.timeout(3):
        while psutil.Process(rendering._program.pid).children():
            await asyncio.sleep(0.05)


async def test_the_program_knows_nothing_of_the_service(rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its environment nor what it has open."""
    monkeypatch.setenv("HYPHA_JWT_SECRET", "the secret of the cluster")
    await rendering.render("x", {})
    assert rendering._program is not None
    process = Path("/proc") / str(rendering._program.pid)
    assert b"secret of the cluster" not in (process / "environ").read_bytes()
    opened = [str(entry.readlink()) for entry in (process / "fd").iterdir()]
    assert sum(target.startswith("socket:") for target in opened) == 1


async def test_a_program_that_ended_is_started_again(rendering: Rendering) -> None:
    await rendering.render("x", {})
    assert rendering._program is not None
    rendering._program.send_signal(signal.SIGKILL)
    await rendering._program.wait()
    assert await rendering.render("{{ 'again' }}", {}) == b"again"


async def test_it_ends_with_the_service(rendering: Rendering) -> None:
    await rendering.render("x", {})
    assert rendering._program is not None
    process = psutil.Process(rendering._program.pid)
    await rendering.close()
    assert not process.is_running()


async def test_only_so_many_at_once(rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page in time, or word that there is none: many ask at once."""
    pages = await asyncio.gather(*(rendering.render("{{ n }}", {"n": n}) for n in range(40)))
    assert pages == [str(n).encode() for n in range(40)]
    assert not rendering._turns
    monkeypatch.setattr("hypha_artifacts.views.rendering._WAIT_S", 0.05)
    rendering._gate = asyncio.Semaphore(0)
    with pytest.raises(Unavailable):
        await rendering.render("x", {})


async def test_one_owner_does_not_keep_others_waiting(rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has endless templates waits for them; everybody else does not."""
    monkeypatch.setattr("hypha_artifacts.views.rendering._TIME_LIMIT_S", 2.0)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    endless = [asyncio.create_task(rendering.render(loops, {}, owner="one")) for _ in range(8)]
    await asyncio.sleep(0)
    async with asyncio.timeout(1.9):
        assert await rendering.render("{{ 1 + 1 }}", {}, owner="other") == b"2"
    ends = await asyncio.gather(*endless, return_exceptions=True)
    assert all(isinstance(end, (InternalError, Unavailable)) for end in ends)
