"""
The program that renders templates of users, apart from the service (ADR 0020).

It is started without the service's environment, loads what templates need and waits. For each template it forks: the
child may open nothing, start nothing, and use so much memory and time; it renders one template and ends. Standard
library and jinja2 only: what is not loaded here cannot be reached.

A message on the socket whose number is the argument brings the socket of a request (JSON of source and variables up to
its end); the answer is a byte, 0 for a page and 1 for an error, and text in UTF-8.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["MAX_OUTPUT_BYTES", "PAGE", "TIME_LIMIT_S", "render"]

TIME_LIMIT_S = 5
MAX_OUTPUT_BYTES = 8 * 2**20
PAGE, ERROR = b"\0", b"\1"

_MEMORY_BYTES = 192 * 2**20
_NICE = 10  # whoever serves goes first
_MAX_ERROR_LENGTH = 500


class TooLargeError(Exception):
    """A page is larger than pages may be."""


def render(source: str, variables: dict[str, Any], environment: ImmutableSandboxedEnvironment) -> bytes:
    """Return a page. Raises whatever a template can raise."""
    pieces, size = [], 0
    for text in environment.from_string(source).generate(variables):
        piece = text.encode(errors="replace")
        size += len(piece)
        if size > MAX_OUTPUT_BYTES:
            raise TooLargeError(f"the page is larger than {MAX_OUTPUT_BYTES} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def make_environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(autoescape=True)
    del environment.globals["lipsum"]  # makes any amount of text
    # What is loaded when it is first used, is now: later nothing can be opened.
    for source in ("{{ [1]|tojson|urlize }}{{ 'a'|title|wordwrap }}{{ ['b']|random }}", "{% if %}", "{{ a.b.c }}"):
        with suppress(TemplateError):  # mistakes are told with help of more modules
            render(source, {}, environment)
    return environment


def _answer(request: socket.socket, environment: ImmutableSandboxedEnvironment) -> None:
    _bind_limits()
    with request.makefile("rwb") as stream:
        order = json.loads(stream.read())
        try:
            page = render(order["source"], order["variables"], environment)
        except Exception as error:  # noqa: BLE001  # a template may raise anything
            stream.write(ERROR + _described(error).encode(errors="replace"))
        else:
            stream.write(PAGE + page)


def _described(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    text = str(error)[:_MAX_ERROR_LENGTH]
    return f"line {error.lineno}: {text}" if isinstance(error, TemplateSyntaxError) else text or type(error).__name__


def _bind_limits() -> None:
    os.nice(_NICE)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)  # nobody handles its signal: it ends the process
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, TIME_LIMIT_S),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, whose end is ours
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children
    environment = make_environment()
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _answer(socket.socket(fileno=descriptors[0]), environment)
            os._exit(0)
        os.close(descriptors[0])


if __name__ == "__main__":
    main()
