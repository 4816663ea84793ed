"""Conditional requests and ranges of files."""

from __future__ import annotations

import pytest

from hypha_artifacts.http.conditions import Entity, UnsatisfiableError, precondition, range_for_store, wanted_range

FILE = Entity(100, "abc", 1_700_000_000.7)
SAME = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER, LATER = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"if-none-match": '"abc"'}, 304),
        ({"if-none-match": 'W/"abc"'}, 304),
        ({"if-none-match": '"x", "abc"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, None),
        ({"if-none-match": "abc"}, None),
        ({"if-none-match": '"x"', "if-modified-since": SAME}, None),
        ({"if-modified-since": SAME}, 304),
        ({"if-modified-since": LATER}, 304),
        ({"if-modified-since": EARLIER}, None),
        ({"if-modified-since": "yesterday"}, None),
        ({"if-match": '"abc"'}, None),
        ({"if-match": "*"}, None),
        ({"if-match": '"x"'}, 412),
        ({"if-match": 'W/"abc"'}, 412),
        ({"if-unmodified-since": EARLIER}, 412),
        ({"if-unmodified-since": SAME}, None),
    ],
)
def test_conditions(headers: dict[str, str], status: int | None) -> None:
    assert precondition(headers, FILE) == status


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("bytes=0-0", (0, 0)),
        ("bytes=0-", (0, 99)),
        ("bytes=10-19", (10, 19)),
        ("Bytes=90-200", (90, 99)),
        ("bytes=-5", (95, 99)),
        ("bytes=-500", (0, 99)),
        ("bytes=99-", (99, 99)),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_ranges(text: str, piece: tuple[int, int] | None) -> None:
    assert wanted_range({"range": text}, FILE) == piece


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_ranges_behind_the_end(text: str) -> None:
    with pytest.raises(UnsatisfiableError):
        wanted_range({"range": text}, FILE)
    with pytest.raises(UnsatisfiableError):
        wanted_range({"range": "bytes=0-"}, Entity(0, "abc", 0))


@pytest.mark.parametrize(
    ("condition", "is_piece"), [('"abc"', True), ('W/"abc"', False), ('"x"', False), (SAME, True), (LATER, False)]
)
def test_a_piece_of_another_file_is_of_no_use(condition: str, is_piece: bool) -> None:
    piece = wanted_range({"range": "bytes=0-1", "if-range": condition}, FILE)
    assert (piece is not None) is is_piece


@pytest.mark.parametrize(
    ("text", "asked"),
    [("bytes=0-4", "bytes=0-4"), ("bytes=-3", "bytes=-3"), ("Bytes= 7-", "bytes=7-"), ("bytes=0--1", None),
     ("bytes=4-2", None), ("bytes=-", None), ("bytes=0-1,3-4", None), ("items=0-1", None), ("", None)],
)  # fmt: skip
def test_what_is_no_range_is_not_asked_for(text: str, asked: str | None) -> None:
    assert range_for_store({"range": text}) == ([] if asked is None else [("range", asked)])
