"""COPY text as row images: the inverse of what writes it, and what is no COPY text."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.codecs.copyframe_cy import CopyTextError, copy_images
from cdcflow.model.frame import cells, image

CELLS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(str.encode))
_ESCAPED = {8: b"\\b", 9: b"\\t", 10: b"\\n", 11: b"\\v", 12: b"\\f", 13: b"\\r", 92: b"\\\\"}


def line(row: list[bytes | None]) -> bytes:
    texts = [b"\\N" if cell is None else b"".join(_ESCAPED.get(byte, bytes([byte])) for byte in cell) for cell in row]
    return b"\t".join(texts) + b"\n"


@settings(deadline=None)
@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6)))
def test_rows_come_back_as_they_were_written(rows: list[list[bytes | None]]) -> None:
    width = len(rows[0]) if rows else 1
    images, sizes = copy_images(b"".join(line(row) for row in rows), width)
    expected = [image(tuple(row)) for row in rows]
    assert images == b"".join(expected)
    assert array("i", sizes).tolist() == [len(each) for each in expected]


def test_a_text_of_backslash_and_n_is_no_null() -> None:
    images, _ = copy_images(b"\\\\N\t\\N\n", 2)
    assert cells(images, 0, 2) == [b"\\N", None]


@pytest.mark.parametrize(
    ("block", "width"),
    [(b"1", 1), (b"1\t2\n", 1), (b"1\n", 2), (b"1\\\n", 1), (b"x\n", 0), (b"1\t2\n1\n", 2), (b"\\\n", 1)],
)
def test_what_is_no_copy_text_of_the_table_is_refused(block: bytes, width: int) -> None:
    with pytest.raises(CopyTextError):
        copy_images(block, width)


def test_a_table_without_columns_has_empty_images() -> None:
    assert copy_images(b"\n\n", 0) == (b"", array("i", [0, 0]).tobytes())
