"""COPY text and row images as SQLite's parameters: each kind of value, and what is no row at all."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdcflow.codecs import sqliterows_cy
from cdcflow.codecs.copytext_cy import copy_text
from cdcflow.codecs.sqliterows_cy import RowError, copy_rows, image_rows, value_of
from cdcflow.model.frame import UNCHANGED, Cell, image

CELLS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(str.encode))
KINDS = st.sampled_from("tifbx")


def starts(images: list[bytes]) -> bytes:
    found, at = array("q"), 0
    for each in images:
        found.append(at)
        at += len(each)
    return found.tobytes()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("t", "a\té€😀", "a\té€😀"),
        ("t", "", ""),
        ("i", "0", 0),
        ("i", "-12", -12),
        ("i", "9223372036854775807", 2**63 - 1),
        ("i", "-9223372036854775808", -(2**63)),
        ("i", "9223372036854775808", "9223372036854775808"),
        ("i", "18446744073709551615", "18446744073709551615"),
        ("i", "-", "-"),
        ("i", "1a", "1a"),
        ("f", "0.1", 0.1),
        ("f", "1e+20", 1e20),
        ("f", "-Infinity", float("-inf")),
        ("f", "NaN", "NaN"),
        ("b", "t", 1),
        ("b", "f", 0),
        ("b", "yes", "yes"),
        ("x", "\\x", b""),
        ("x", "\\x0aFf", b"\x0a\xff"),
        ("x", "\\x0", "\\x0"),
        ("x", "\\x0g", "\\x0g"),
        ("x", "plain", "plain"),
    ],
)
def test_each_kind_of_text_becomes_its_value_by_either_way(kind: str, text: str, value: object) -> None:
    cell = text.encode()
    assert value_of(cell, ord(kind)) == value
    (row,) = image_rows(image([cell]), starts([b""]), 1, (0,), kind.encode(), UNCHANGED)
    assert row == (value,)
    assert type(row[0]) is type(value)
    blocks: list[bytes] = []
    copy_text(image([cell]), b"", starts([b""]), 1, (0,), blocks.append)
    assert copy_rows(b"".join(blocks), kind.encode()) == [(value,)]


def test_negative_zero_stays_negative() -> None:
    assert str(copy_rows(b"-0\n", b"f")[0][0]) == "-0.0"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(CELLS, KINDS, CELLS, KINDS), max_size=5))
def test_copy_text_and_images_give_the_same_rows_as_cell_by_cell(rows: list[tuple[Cell, str, Cell, str]]) -> None:
    for first, first_kind, second, second_kind in rows:
        kinds = (first_kind + second_kind).encode()
        one = image([first, second])
        expected = tuple(
            value_of(cell, kind) if isinstance(cell, bytes) else cell
            for cell, kind in zip((first, second), kinds, strict=True)
        )
        assert image_rows(one, starts([one]), 2, (0, 1), kinds, UNCHANGED) == [expected]
        blocks: list[bytes] = []
        copy_text(one, b"", starts([one]), 2, (0, 1), blocks.append)
        assert copy_rows(b"".join(blocks), kinds) == [expected]


def test_only_the_asked_places_come_back_and_absent_cells_are_marked() -> None:
    images = [image([b"1", UNCHANGED, None]), image([b"2", b"x", b"y"])]
    found = image_rows(b"".join(images), starts(images), 3, (2, 1), b"tt", UNCHANGED)
    assert found == [(None, UNCHANGED), ("y", "x")]


def test_every_escape_of_copy_text_is_read() -> None:
    assert copy_rows(b"\\b\\f\\n\\r\\t\\v\\\\\\N\t\\N\n", b"tt") == [("\b\f\n\r\t\v\\N", None)]


def test_a_table_without_columns_has_rows() -> None:
    assert copy_rows(b"\n\n", b"") == [(), ()]


@pytest.mark.parametrize("block", [b"a\tb", b"a\n", b"a\tb\tc\n", b"a\tb\\\n", b"a\n\tb\n", b"\xff\tb\n"])
def test_a_block_that_is_none_is_refused(block: bytes) -> None:
    with pytest.raises(RowError):
        copy_rows(block, b"tt")


@given(st.binary(max_size=40), st.integers(-5, 50), st.integers(1, 3))
def test_no_image_is_read_past_its_end(images: bytes, start: int, width: int) -> None:
    try:
        rows = image_rows(images, array("q", [start]).tobytes(), width, (0, width - 1), b"ti", UNCHANGED)
    except RowError:
        return
    assert len(rows) == 1


@given(st.binary(max_size=60))
def test_no_block_is_read_past_its_end(block: bytes) -> None:
    for kinds in (b"t", b"ix", b"fbt"):
        try:
            copy_rows(block, kinds)
        except RowError:
            continue


def test_the_plain_and_the_loaded_form_agree() -> None:
    block = b"1\tx\\ty\t\\\\x00ff\t1.5\tt\n\\N\t\\N\t\\N\t\\N\t\\N\n"
    assert copy_rows(block, b"itxfb") == sqliterows_cy._plain_copy_rows(block, b"itxfb")
