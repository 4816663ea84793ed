from __future__ import annotations

import dataclasses
import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from .errors import ConfigurationError

__all__ = ["Option", "OptionValue", "nearest", "option", "options_of"]

OptionValue: TypeAlias = "str | int | float | bool | tuple[str, ...]"
Check: TypeAlias = "Callable[[Any], str | None]"  # returns what is wrong, as "must …"

T = TypeVar("T", str, int, float, bool, tuple[str, ...])

_KEY = "hypha.option"
_TRUE = frozenset({"true", "1", "yes", "y", "on"})
_FALSE = frozenset({"false", "0", "no", "n", "off", ""})
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]*@")
_PLAIN_WORD = re.compile(r"[^\s,'\"]+")
_MASK = "********"


@dataclass(frozen=True, slots=True)
class Option:
    """One row of a settings table: what may be set, by which names, and what it means."""

    name: str
    default: OptionValue
    help: str
    roles: frozenset[str]  # who reads it; empty: everybody
    secret: bool  # never shown, and no flag: process lists show flags to everybody
    exposed: bool  # a flag although it is secret: command lines of other servers have it
    address: bool  # may hold a password, which is not shown
    environment: tuple[str, ...]  # names read, in this order
    check: Check | None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def flags(self) -> list[str]:
        """Every spelling: a variable HYPHA_X that is read has its flag --x."""
        names = [name.removeprefix("HYPHA_") for name in self.environment if name.startswith("HYPHA_")]
        return ["--" + name.lower().replace("_", "-") for name in names]

    def used_by(self, role: str) -> bool:
        return not self.roles or role in self.roles

    def parse(self, value: object, source: str) -> OptionValue:
        """Turn what was written in ``source`` into the option's type. Raises ConfigurationError."""
        try:
            parsed = _convert(value, self.default)
        except ValueError as error:
            # What is wrong with a secret is said without repeating it.
            wrong = f"must be of type {type(self.default).__name__}" if self.secret or self.address else error
            raise ConfigurationError(f"{source}: {self.name} {wrong}") from None
        self.validate(parsed, source)
        return parsed

    def validate(self, value: OptionValue, source: str) -> None:
        """Raise ConfigurationError where the value has the right type and is wrong all the same."""
        wrong = self.check(value) if self.check is not None and value != self.default else None
        if wrong:
            raise ConfigurationError(f"{source}: {self.name} {wrong}")

    def shown(self, value: OptionValue) -> str:
        """Return the value as it may be printed: secrets are masked, of an address only its password."""
        text = _written(value)
        if self.address:
            return _URL_PASSWORD.sub(rf"\g<1>{_MASK}@", text)
        return _MASK if self.secret and text else text

    def written(self, value: OptionValue) -> str:
        """Return the value as an environment variable holds it."""
        return _written(value)


def option(
    default: T,
    help: str,
    *,
    roles: Iterable[str] = (),
    secret: bool = False,
    exposed: bool = False,
    address: bool = False,
    environment: Iterable[str] = (),
    minimum: float | None = None,
    choices: Iterable[str] = (),
    check: Check | None = None,
) -> T:
    """Declare a field of a settings dataclass. ``environment`` adds names to ``HYPHA_<NAME>``."""
    if minimum is not None:
        check = _at_least(minimum)
    if choices:
        check = _one_of(tuple(choices))
    row = {
        "help": help,
        "roles": frozenset(roles),
        "secret": secret,
        "exposed": exposed,
        "address": address,
        "environment": tuple(environment),
        "check": check,
    }
    # The cast that a dataclass field needs: the annotation on the left is what callers see.
    value: T = dataclasses.field(default=default, metadata={_KEY: row}, repr=not (secret or address))
    return value


def options_of(table: type) -> dict[str, Option]:
    """Return the rows of a settings dataclass, by name."""
    rows: dict[str, Option] = {}
    for column in dataclasses.fields(table):
        row: Mapping[str, Any] | None = column.metadata.get(_KEY)
        if row is not None:
            names = (f"HYPHA_{column.name.upper()}", *row["environment"])
            default: Any = column.default
            rows[column.name] = Option(column.name, default, **{**row, "environment": names})
    return rows


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean X?)`` for the known name most like ``name``, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean {found[0]}?)" if found else ""


def _convert(value: object, like: OptionValue) -> OptionValue:
    if isinstance(like, bool):
        return _to_bool(value)
    if isinstance(like, (int, float)):
        return _to_number(value, like)
    if isinstance(like, tuple):
        return _to_words(value)
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {value!r}")
    return value.strip()


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"must be true or false, not {value!r}")


def _to_number(value: object, like: int | float) -> int | float:
    whole = isinstance(like, int)
    noun = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"must be {noun}, not {value!r}")
    try:
        number = float(value)
        if whole:
            number = int(value) if isinstance(value, str) else number
    except ValueError:
        raise ValueError(f"must be {noun}, not {value!r}") from None
    if number != number or number in (float("inf"), float("-inf")) or (whole and number != int(number)):
        raise ValueError(f"must be {noun}, not {value!r}")
    return int(number) if whole else number


def _to_words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return _split(value)
    if isinstance(value, (list, tuple)) and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise ValueError(f"must be a list of words, not {value!r}")


def _written(value: OptionValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return " ".join(map(_quoted, value))
    return str(value)


def _quoted(word: str) -> str:
    return word if _PLAIN_WORD.fullmatch(word) else "'" + word.replace("'", "'\"'\"'") + "'"


def _split(text: str) -> tuple[str, ...]:
    """Split words at blanks and commas; quotes, as in a shell, keep them together."""
    if "'" in text or '"' in text:
        words = shlex.shlex(text, posix=True, punctuation_chars="")
        words.whitespace += ","
        words.whitespace_split, words.commenters, words.escape = True, "", ""
        with suppress(ValueError):  # a quote that is never closed is one that is meant
            return tuple(words)
    return tuple(text.replace(",", " ").split())


def _at_least(minimum: float) -> Check:
    return lambda value: None if value >= minimum else f"must be at least {minimum:g}, not {value}"


def _one_of(choices: tuple[str, ...]) -> Check:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}, not {value!r}"
