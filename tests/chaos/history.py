from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from hypha_common.ids import new_id

__all__ = ["Call", "History", "Violation", "brief", "check", "is_definite"]

Kind: TypeAlias = Literal[
    "wrong answer", "answer to nothing", "no execution", "reordered", "duplicate", "hang", "executed though failed",
    "lost",
]  # fmt: skip

# Whoever is told one of these may be sure that nobody ran the call, and that nobody will.
_DEFINITE = re.compile(
    r"is not connected\W*$|No replica of role|The bus is not connected|Service not found|Method not found|Overloaded"
)


@dataclass(slots=True)
class Call:
    """
    One call: what its caller and its callee noted of it. Times are of ``time.monotonic()``.

    ``number`` counts the calls of one caller to one target. ``executed`` are positions in the order of all executions.
    ``observed``: the callee notes what it runs. A call that is ``one_way`` wants no answer.

    """

    id: str
    kind: str
    caller: str
    target: str
    number: int
    sent: float
    deadline_s: float
    observed: bool = False
    one_way: bool = False
    executed: list[int] = field(default_factory=list)
    executed_at: list[float] = field(default_factory=list)
    ended: float | None = None
    outcome: Literal["", "answered", "failed"] = ""
    value: str = ""
    allowed: tuple[str, ...] = ()
    error: str = ""
    definite: bool = False

    @property
    def took_s(self) -> float:
        """Seconds until the caller knew; infinite where it never did."""
        return float("inf") if self.ended is None else self.ended - self.sent

    @property
    def is_wrong(self) -> bool:
        """Whether it was answered by what is not allowed."""
        return self.outcome == "answered" and self.value not in self.allowed

    @property
    def ran_late_s(self) -> float:
        """Seconds from the moment in which the caller was told of a failure to an execution after it; else 0."""
        if self.outcome != "failed" or self.ended is None or not self.executed_at:
            return 0.0
        return max(0.0, max(self.executed_at) - self.ended)

    def __str__(self) -> str:
        end = {"": "no end", "answered": f"answered {self.value[:60]}", "failed": brief(self.error)}[self.outcome]
        return (
            f"{self.kind} #{self.number} {self.caller} -> {self.target} at {self.sent:.2f} {self.took_s:.2f} s: {end}"
        )


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and the call that shows it."""

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class History:
    """
    Every call of a run: sent, executed, answered, failed.

    Callers and callees are in one process, so one clock and one order hold for all that is noted.

    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._executions = 0
        self.calls: dict[str, Call] = {}
        self.strangers: list[str] = []  # what was noted of calls that nobody sent, or that had ended

    def sent(
        self, kind: str, caller: str, target: str, *, deadline_s: float, observed: bool = False, one_way: bool = False
    ) -> Call:
        """Note that a call is about to be sent. Its id is also the answer that is expected, unless said otherwise."""
        self._numbers[caller, target] += 1
        number = self._numbers[caller, target]
        call = Call(new_id(12), kind, caller, target, number, self._now(), deadline_s, observed, one_way)
        self.calls[call.id] = call
        return call

    def executed(self, call_id: str) -> None:
        """The callee runs a call."""
        call = self.calls.get(call_id)
        if call is None:
            self.strangers.append(f"executed {call_id!r}")
            return
        self._executions += 1
        call.executed.append(self._executions)
        call.executed_at.append(self._now())

    def answered(self, call: Call, value: object, *, allowed: Sequence[object] | None = None) -> None:
        """The caller was answered ``value``, where one of ``allowed`` is right; by default the id of the call."""
        self._end(call, "answered")
        call.value = str(value)
        call.allowed = (call.id,) if allowed is None else tuple(map(str, allowed))

    def failed(self, call: Call, error: BaseException | str, *, definite: bool | None = None) -> None:
        """The caller was told of a failure; by default the text says whether it is definite."""
        self._end(call, "failed")
        call.error = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        call.definite = is_definite(call.error) if definite is None else definite

    def _end(self, call: Call, outcome: Literal["answered", "failed"]) -> None:
        if call.outcome:
            self.strangers.append(f"{outcome} again: {call}")
        call.ended, call.outcome = self._now(), outcome

    def since(self, moment: float) -> list[Call]:
        """Return the calls that ended after a moment, or never."""
        return [call for call in self.calls.values() if call.ended is None or call.ended > moment]

    def save(self, path: Path) -> None:
        """Write one call a line, in the order in which they were sent."""
        with path.open("w") as file:
            file.writelines(json.dumps(asdict(call)) + "\n" for call in self.calls.values())
            file.writelines(json.dumps({"stranger": text}) + "\n" for text in self.strangers)

    @classmethod
    def load(cls, path: Path) -> History:
        """Read what :meth:`save` wrote."""
        history = cls()
        for line in path.read_text().splitlines():
            row = json.loads(line)
            if "stranger" in row:
                history.strangers.append(row["stranger"])
            else:
                call = Call(**{**row, "allowed": tuple(row["allowed"])})
                history.calls[call.id] = call
        return history


def check(
    history: History, *, lossy: Iterable[tuple[float, float]] = (), slack_s: float = 0.0, now: float | None = None
) -> list[Violation]:
    """
    Return what was broken, in no particular order; an empty list is a clean history.

    ``lossy`` are periods (from, to) in which frames that want no answer may be lost; ``slack_s`` is how late the
    process that noted the history was itself. Without ``now`` every call must have ended.

    """
    calls = list(history.calls.values())
    return [
        *(Violation("answer to nothing", text) for text in history.strangers),
        *_wrong(history, calls),
        *_executions(calls),
        *_reordered(calls),
        *_hanging(calls, slack_s, now),
        *_lost(calls, list(lossy)),
    ]


def is_definite(error: str) -> bool:
    """Tell whether an error says that the callee never ran the call and never will."""
    return _DEFINITE.search(error.strip()) is not None


def brief(error: str) -> str:
    """Return the ends of an error: texts of remote errors are long in between."""
    lines = error.strip().splitlines() or [""]
    return " … ".join(dict.fromkeys((lines[0], lines[-1])))[:200]


def _wrong(history: History, calls: list[Call]) -> Iterator[Violation]:
    for call in calls:
        if not call.is_wrong:
            continue
        other = history.calls.get(call.value)
        whose = f"the answer to {other}" if other is not None else f"{call.value!r} instead of {call.allowed!r}"
        yield Violation("wrong answer", f"{call} got {whose}")


def _executions(calls: list[Call]) -> Iterator[Violation]:
    for call in calls:
        if len(call.executed) > 1:
            yield Violation("duplicate", f"executed {len(call.executed)} times: {call}")
        if call.outcome == "failed" and call.definite and call.executed:
            yield Violation("executed though failed", str(call))
        if call.outcome == "answered" and call.observed and not call.executed:
            yield Violation("no execution", f"answered, though nobody ran it: {call}")


def _reordered(calls: list[Call]) -> Iterator[Violation]:
    """In order per caller and target; a call that its caller gave up may come in the middle of later ones."""
    runs: defaultdict[tuple[str, str], list[tuple[int, Call]]] = defaultdict(list)
    for call in calls:
        if call.executed and call.outcome != "failed":
            runs[call.caller, call.target].append((call.executed[0], call))
    for run in runs.values():
        latest: Call | None = None
        for _, call in sorted(run, key=lambda one: one[0]):
            if latest is not None and call.number < latest.number:
                yield Violation("reordered", f"{call} ran after {latest}")
            else:
                latest = call


def _hanging(calls: list[Call], slack_s: float, now: float | None) -> Iterator[Violation]:
    for call in calls:
        waited = call.took_s if call.ended is not None or now is None else now - call.sent
        if not call.one_way and waited > call.deadline_s + slack_s:
            yield Violation("hang", str(call))


def _lost(calls: list[Call], lossy: list[tuple[float, float]]) -> Iterator[Violation]:
    for call in calls:
        if call.one_way and not call.executed and not any(start <= call.sent <= end for start, end in lossy):
            yield Violation("lost", str(call))
