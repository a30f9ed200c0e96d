"""Ranges of a key: the SQL of one, and what is left of a copy that was broken off."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.errors import CopyRestart
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Table, TableName
from cdcflow.sources.mysql import chunks, types
from cdcflow.sources.mysql.chunks import Bound, Edge, Key, Piece


def column(name: str, text: str, charset: str = "", *, nullable: bool = False) -> Column:
    native = types.native(text, charset=charset)
    return Column(name, native, types.logical(native), nullable=nullable)


ID = column("id", "bigint unsigned")
BY_ID = Key("PRIMARY", (ID,))
THREE = Key("PRIMARY", (column("a", "int"), column("b", "varchar(9)", "utf8mb4"), column("c", "date")))


def route(*columns: Column, key: Sequence[str] = ("id",)) -> Route:
    table = Table(TableName("d", "t"), 7, columns or (ID,), key=tuple(key), engine="mysql")
    return Route(table, table.name, tuple((c, c.name) for c in table.columns), tuple(key))


def done(*of: Chunk) -> list[DoneChunk]:
    return [DoneChunk(chunk, "p", "t", 1, 1) for chunk in of]


def test_the_condition_of_a_range() -> None:
    assert chunks.where(BY_ID, None, None) == ""
    assert chunks.where(BY_ID, ("5",), None) == "`id` > 5"
    assert chunks.where(BY_ID, ("5",), ("9",)) == "`id` > 5 AND `id` <= 9"
    assert chunks.where(BY_ID, None, ("18446744073709551615",)) == "`id` <= 18446744073709551615"


def test_the_condition_of_a_composite_key_is_written_out() -> None:
    low = ("1", "61", "2024-01-01")
    assert chunks.where(THREE, low, None) == (
        "(`a` > 1 OR (`a` = 1 AND (`b` > _utf8mb4 x'61' OR (`b` = _utf8mb4 x'61' AND `c` > '2024-01-01'))))"
    )
    assert chunks.where(THREE, None, low).endswith("AND `c` <= '2024-01-01'))))")


def test_a_bound_of_the_first_columns_stands_behind_all_that_begins_with_it() -> None:
    assert chunks.where(THREE, ("1",), ("2", "62")) == ("`a` > 1 AND (`a` < 2 OR (`a` = 2 AND `b` <= _utf8mb4 x'62'))")


@pytest.mark.parametrize(
    ("of", "text", "sql"),
    [
        (column("a", "int"), "-5", "-5"),
        (column("a", "decimal(10,2)"), "-0.10", "-0.10"),
        (column("a", "double"), "0.1", "0.1e0"),
        (column("a", "float"), "1e+20", "1e+20"),
        (column("a", "varchar(9)", "latin1"), "E4", "_latin1 x'e4'"),
        (column("a", "char(9)", "utf8mb4"), "", "_utf8mb4 x''"),
        (column("a", "varbinary(9)"), "5C27", "x'5c27'"),
        (column("a", "time"), "-838:59:59", "'-838:59:59'"),
        (column("a", "uuid"), "123e4567-e89b-12d3-a456-426655440000", "'123e4567-e89b-12d3-a456-426655440000'"),
    ],
)
def test_a_value_as_a_constant(of: Column, text: str, sql: str) -> None:
    assert chunks.constant(of, text) == sql


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (column("a", "int"), "1 OR 1=1"),
        (column("a", "varchar(9)", "utf8mb4"), "61' OR ''='"),
        (column("a", "double"), "SLEEP(1)"),
    ],
)
def test_what_is_no_value_never_becomes_sql(of: Column, text: str) -> None:
    with pytest.raises(ValueError, match=r"number|hexadecimal"):
        chunks.constant(of, text)


def test_a_quote_in_a_remembered_text_stays_inside() -> None:
    assert chunks.constant(column("a", "date"), "' OR ''='") == r"''' OR ''''='''"


@pytest.mark.parametrize(
    ("of", "fits"),
    [
        (column("a", "int"), True),
        (column("a", "int", nullable=True), False),
        (column("a", "enum('a')"), False),
        (column("a", "set('a')"), False),
        (column("a", "bit(9)"), False),
        (column("a", "varchar(9)", "utf8mb4"), True),
        (column("a", "varbinary(9)"), True),
        (column("a", "blob"), False),
        (column("a", "json"), False),
        (column("a", "inet6"), True),
    ],
)
def test_which_columns_are_divided_by(of: Column, fits: bool) -> None:
    assert chunks.fit(of) is fits


def test_bounds_survive_as_text() -> None:
    piece = Piece(("a", "b"), chunks.Fraction(7, 2), ("1", "61"), None)
    chunk = piece.chunk(7, 3, 10)
    assert Piece.of(Chunk(chunk.table_id, chunk.number, chunk.low, chunk.high)) == piece
    assert chunk.high == ""


def test_a_chunk_of_another_form_is_refused() -> None:
    for low in ("12:34:56", "{}", '{"by": 1, "rank": "x", "after": null}', ""):
        with pytest.raises(ValueError, match=r".+"):
            Piece.of(Chunk(7, 0, low, ""))


def test_a_table_without_a_key_cannot_go_on() -> None:
    keyless = route(ID, key=())
    (chunk,) = chunks.plan(keyless, Key(), [], lambda low, high: [(high, 0)])
    assert chunk.high == ""
    with pytest.raises(CopyRestart):
        chunks.plan(keyless, Key(), done(chunk), lambda low, high: [(high, 0)])


def test_chunks_of_another_key_cannot_be_used() -> None:
    first, *_ = chunks.plan(route(), BY_ID, [], lambda low, high: [(("5",), 1), (high, 1)])
    other = replace(BY_ID, columns=(column("uid", "int"),))
    with pytest.raises(CopyRestart):
        chunks.plan(route(), other, done(first), lambda low, high: [(high, 1)])


@given(st.sets(st.integers(0, 60), max_size=40), st.integers(0, 2**32), st.integers(1, 6))
def test_what_is_planned_after_any_interruptions_covers_each_value_once(keys: set[int], seed: int, rounds: int) -> None:
    chance = random.Random(seed)

    def edges(low: Bound | None, high: Bound | None) -> list[Edge]:
        inside = sorted(k for k in keys if (low is None or k > int(low[0])) and (high is None or k < int(high[0])))
        cuts = sorted(chance.sample(inside, min(len(inside), chance.randint(0, 6))))
        return [*(((str(k),), 1) for k in cuts), (high, 1)]

    finished: list[DoneChunk] = []
    covered: list[int] = []
    for number in range(rounds + 1):
        planned = chunks.plan(route(), BY_ID, finished, edges)
        chosen = planned if number == rounds else [chunk for chunk in planned if chance.random() < 0.5]
        chance.shuffle(chosen)
        for chunk in chosen:
            piece = Piece.of(chunk)
            covered += [
                k
                for k in range(-1, 62)
                if (piece.low is None or k > int(piece.low[0])) and (piece.high is None or k <= int(piece.high[0]))
            ]
        finished += done(*chosen)
    assert sorted(covered) == list(range(-1, 62))
    assert len({each.chunk.number for each in finished}) == len(finished)
    assert chunks.plan(route(), BY_ID, finished, edges) == []
