"""Positions in PostgreSQL's log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.model.position import Position
from cdcflow.sources.postgres.position import Lsn

values = st.integers(min_value=0, max_value=2**64 - 1)


@given(values)
def test_a_position_reads_back_from_its_own_text(value: int) -> None:
    assert Lsn.parse(str(Lsn(value))) == Lsn(value)


@given(values, values)
def test_covering_is_a_total_order_and_agrees_with_distance(a: int, b: int) -> None:
    one, other = Lsn(a), Lsn(b)
    assert one.covers(other) or other.covers(one)
    assert (one.covers(other) and other.covers(one)) == (one == other)
    distance = one.distance(other)
    assert distance == a - b
    assert one.covers(other) == (distance >= 0)


def test_the_text_is_what_the_server_prints() -> None:
    assert str(Lsn(0x5A3F210)) == "0/5A3F210"
    assert str(Lsn(0x16_B374D848)) == "16/B374D848"
    assert str(Lsn(0x1_00000000)) == "1/0"


def test_positions_compare_as_numbers_and_not_as_text() -> None:
    assert Lsn.parse("10/0").covers(Lsn.parse("9/FFFFFFFF"))
    assert Lsn.parse("0/A0000000").covers(Lsn.parse("0/9FFFFFFF"))


def test_lower_case_from_another_tool_is_read() -> None:
    assert Lsn.parse("0/abcdef12") == Lsn(0xABCDEF12)


@pytest.mark.parametrize(
    "text", ["", "0", "0/", "/0", "0/100000000", "0/0x", "0/ 0", " 0/0", "0/0\n", "0-0", "-1/0", "0/\u0663"]
)
def test_text_that_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a log sequence number"):
        Lsn.parse(text)


@given(st.text())
def test_any_text_is_a_position_or_refused(text: str) -> None:
    try:
        position = Lsn.parse(text)
    except ValueError:
        return
    assert Lsn.parse(str(position)) == position


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_number_outside_64_bits_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        Lsn(value)


def test_a_position_of_another_engine_is_never_covered() -> None:
    class Elsewhere:
        def covers(self, other: Position) -> bool:
            return False

        def distance(self, other: Position) -> int | None:
            return None

        def at(self, number: int) -> Position:
            return self

    assert not Lsn(5).covers(Elsewhere())
    assert Lsn(5).distance(Elsewhere()) is None


def test_the_number_of_a_batchs_mark_is_the_position() -> None:
    assert Lsn(5).at(9) == Lsn(9)


def test_a_position_keeps_the_contract() -> None:
    assert isinstance(Lsn(0), Position)
