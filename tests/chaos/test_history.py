from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.history import Call, History, check, is_definite


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock) -> History:
    return History(clock)


def _kinds(history: History, **options: float) -> list[str]:
    return [violation.kind for violation in check(history, **options)]  # type: ignore[arg-type]  # now, slack_s


def _sent(history: History, target: str = "b", *, observed: bool = True, one_way: bool = False) -> Call:
    return history.sent("peer", "a", target, deadline_s=2.0, observed=observed, one_way=one_way)


def _done(history: History, target: str = "b") -> Call:
    call = _sent(history, target)
    history.executed(call.id)
    history.answered(call, call.id)
    return call


def test_clean(history: History) -> None:
    """Answered, failed for certain and not executed, failed perhaps and executed: all of this may be."""
    _done(history)
    history.failed(_sent(history), "Target peer ws/b is not connected")
    begun = _sent(history)
    history.executed(begun.id)
    history.failed(begun, "TimeoutError: Method call timed out")
    _done(history)
    assert check(history) == []


def test_answer_of_another_call(history: History) -> None:
    first, second = _sent(history), _sent(history)
    for call in (first, second):
        history.executed(call.id)
    history.answered(first, second.id)
    history.answered(second, second.id)
    [violation] = check(history)
    assert violation.kind == "wrong answer"
    assert "the answer to peer #2" in violation.text


def test_value_that_nobody_wrote(history: History) -> None:
    """A read may see any of several values, and no other."""
    for value in ("old", "new", "strange"):
        history.answered(_sent(history, observed=False), value, allowed=("old", "new"))
    assert _kinds(history) == ["wrong answer"]


def test_answered_twice(history: History) -> None:
    history.failed(call := _done(history), "x")
    assert call.outcome == "failed"
    assert _kinds(history) == ["answer to nothing"]


def test_execution_of_what_nobody_sent(history: History) -> None:
    history.executed("invented")
    assert _kinds(history) == ["answer to nothing"]


def test_answered_but_not_executed(history: History) -> None:
    history.answered(call := _sent(history), "")
    call.value = call.id
    assert _kinds(history) == ["no execution"]


def test_executed_twice(history: History) -> None:
    history.executed(_done(history).id)
    assert _kinds(history) == ["duplicate"]


@pytest.mark.parametrize("late", [False, True])
def test_executed_though_failed(history: History, *, late: bool) -> None:
    call = _sent(history)
    if not late:
        history.executed(call.id)
    history.failed(call, "RemoteException: Target peer ws/b is not connected")
    if late:
        history.executed(call.id)
    assert _kinds(history) == ["executed though failed"]


def test_late_execution_is_measured(history: History, clock: Clock) -> None:
    call = _sent(history)
    history.failed(call, "TimeoutError: Method call timed out")
    clock.now += 7
    history.executed(call.id)
    assert call.ran_late_s == 7
    assert check(history) == []


def test_reordered(history: History) -> None:
    first, second, third = _sent(history), _sent(history), _sent(history)
    for call in (second, first, third):
        history.executed(call.id)
        history.answered(call, call.id)
    [violation] = check(history)
    assert violation.kind == "reordered"
    assert violation.text.startswith("peer #1")


def test_order_is_of_one_target(history: History) -> None:
    first, second = _sent(history, "b"), _sent(history, "c")
    for call in (second, first):
        history.executed(call.id)
        history.answered(call, call.id)
    assert check(history) == []


def test_hang(history: History, clock: Clock) -> None:
    late = _sent(history)
    history.executed(late.id)
    clock.now += 2.5
    history.answered(late, late.id)
    _sent(history)
    assert _kinds(history) == ["hang", "hang"]
    assert _kinds(history, slack_s=1.0, now=clock.now + 1) == []


def test_lost(history: History, clock: Clock) -> None:
    _sent(history, one_way=True)
    clock.now += 5
    lost = _sent(history, one_way=True)
    clock.now += 5
    history.executed(_sent(history, one_way=True).id)
    assert [violation.text for violation in check(history, lossy=[(99, 101)])] == [str(lost)]


@pytest.mark.parametrize(
    ("error", "definite"),
    [
        ("RemoteException: Target peer ws/b is not connected", True),
        ("Unavailable: No replica of role 'auth' is available", True),
        ("Target peer ws/b is not connected any more, the call may have been executed", False),
        ("ConnectionError: The workspace replica that was executing the call is gone", False),
        ("TimeoutError: Method call timed out", False),
    ],
)
def test_what_is_definite(error: str, *, definite: bool) -> None:
    assert is_definite(error) is definite


def test_saved_and_loaded(history: History, tmp_path: Path) -> None:
    _done(history)
    history.executed("invented")
    history.answered(_sent(history), "x", allowed=("y",))
    history.save(tmp_path / "history.jsonl")
    loaded = History.load(tmp_path / "history.jsonl")
    assert loaded.calls == history.calls
    assert set(check(loaded)) == set(check(history))
