from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from unittest import mock

from .markdown import cell, code, sentence, table

__all__ = ["command_lines"]

_PROJECT = Path(__file__).parents[3] / "pyproject.toml"
# Programs and verbs that are no console scripts of their own: what is typed, and what runs then.
_OTHERS = {
    "hypha-server generate-token": "hypha.server.cli:console",
    "python -m hypha.workers.python_eval": "hypha.workers.python_eval.cli:main",
    "python -m hypha_browser_worker.pyodide_folder": "hypha_browser_worker.pyodide_folder:main",
}
_SETTINGS = "settings"


class _Asked(Exception):
    """A program has come to where it reads its command line."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser.prog)
        self.parser = parser


def command_lines() -> str:
    """Every console script with its verbs and their arguments."""
    scripts = tomllib.loads(_PROJECT.read_text())["project"]["scripts"]
    return "\n\n".join(_program(typed, target) for typed, target in sorted({**scripts, **_OTHERS}.items()))


def _program(typed: str, target: str) -> str:
    parser = _parser_of(typed, target)
    parts = [f"## {code(typed)}"]
    if parser.description:
        parts.append(sentence(parser.description.replace("%%", "%").split("\n\n")[0]))
    verbs = dict(_verbs(parser))
    parts.append(
        table(["command", "what it does"], [(code(verb), cell(sentence(text))) for verb, text in verbs.items()])
    )
    parts += _arguments(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts += [_verb(typed, verb, action.choices[verb]) for verb in verbs]
    return "\n\n".join(part for part in parts if part)


def _verb(typed: str, verb: str, parser: argparse.ArgumentParser) -> str:
    """A verb that takes more than settings, with what it takes."""
    tables = _arguments(parser)
    return "\n\n".join([f"### {code(f'{typed} {verb}')}", *tables]) if tables else ""


def _parser_of(typed: str, target: str) -> argparse.ArgumentParser:
    """What a program reads its command line with: taken from it at the moment when it would."""
    module, _, function = target.partition(":")

    def stop(parser: argparse.ArgumentParser, *_: object) -> object:
        raise _Asked(parser)

    words = typed.split(" -m ")[-1].split()
    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop), mock.patch.object(sys, "argv", words):
        try:
            getattr(import_module(module), function)()
        except _Asked as asked:
            return asked.parser
    raise ValueError(f"{typed} does not read a command line")


def _verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield choice.dest, (choice.help or "").replace("%%", "%")


def _arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Tables of arguments, a table for each group, without those that every program has."""
    tables = []
    for group in parser._action_groups:
        rows = [
            (_spelled(action), cell(sentence((action.help or "").replace("%%", "%"))))
            for action in group._group_actions
            if action.dest not in ("help", "version") and not isinstance(action, argparse._SubParsersAction)
        ]
        if group.title == _SETTINGS or not rows:
            continue
        named = group.title not in ("positional arguments", "options")
        tables.append((f"{sentence(group.title or '')}\n\n" if named else "") + table(["argument", "meaning"], rows))
    return tables


def _spelled(action: argparse.Action) -> str:
    shown = action.metavar if isinstance(action.metavar, str) else None
    if not action.option_strings:
        return code(shown or "|".join(map(str, action.choices or ())) or action.dest).replace("|", "\\|")
    value = "" if action.nargs == 0 else f" {shown or '|'.join(map(str, action.choices or ())) or action.dest.upper()}"
    return ", ".join(code(option + value) for option in action.option_strings).replace("|", "\\|")
