"""Rows in the order of a key's cell, compiled and plain: the order, and that no row is lost."""

from __future__ import annotations

import sys
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.codecs.copytext_cy import ImageError
from cdcflow.codecs.order_cy import by_key

WIDE = st.integers(-(10**18) + 1, 10**18 - 1)


def cell(text: bytes | None) -> bytes:
    if text is None:
        return (-1).to_bytes(4, sys.byteorder, signed=True)
    return len(text).to_bytes(4, sys.byteorder) + text


def images(rows: list[tuple[bytes | None, bytes]], start: int = 0) -> tuple[bytes, list[int]]:
    """Put rows of two cells one behind the other; return them and where each begins."""
    found, starts = b"", []
    for first, second in rows:
        starts.append(start + len(found))
        found += cell(first) + cell(second)
    return found, starts


def ordered(rows: list[bytes], *, place: int = 1, merged: int = 0) -> list[bytes]:
    """Return the cells in the order that `by_key` gives; the last `merged` rows are merged images."""
    pairs = [(b"x" * (n % 3), row) if place else (row, b"y" * (n % 3)) for n, row in enumerate(rows)]
    after, starts = images(pairs[: len(rows) - merged])
    aside, others = images(pairs[len(rows) - merged :])
    references = [*starts, *(-1 - at for at in others)]
    cells = dict(zip(references, rows, strict=True))
    found = array("q", by_key(after, aside, array("q", references).tobytes(), place))
    assert sorted(found) == sorted(references)
    return [cells[reference] for reference in found]


@given(st.lists(WIDE, max_size=40), st.integers(0, 1), st.integers(0, 5))
def test_integers_come_in_their_order(numbers: list[int], place: int, merged: int) -> None:
    rows = [str(number).encode() for number in numbers]
    assert ordered(rows, place=place, merged=min(merged, len(rows))) == [str(n).encode() for n in sorted(numbers)]


@given(st.lists(st.binary(max_size=12), max_size=40))
def test_texts_come_in_the_order_of_their_first_bytes(rows: list[bytes]) -> None:
    rows = [b"t" + row for row in rows]
    assert ordered(rows) == sorted(rows, key=lambda row: row[:8].ljust(8, b"\0"))


def test_one_text_among_integers_makes_all_of_them_texts() -> None:
    assert ordered([b"9", b"10", b"-", b"8"]) == [b"-", b"10", b"8", b"9"]
    assert ordered([b"1" * 19, b"9", b"2"]) == [b"1" * 19, b"2", b"9"]


def test_an_image_that_ends_early_is_an_error() -> None:
    after, starts = images([(b"1", b"2"), (b"3", b"4")])
    references = array("q", starts).tobytes()
    for cut in (1, 3, 6):
        with pytest.raises(ImageError):
            by_key(after[:-cut], b"", references, 1)
