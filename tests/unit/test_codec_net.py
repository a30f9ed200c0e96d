"""Netting has the outcome of applying every change in order."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.codecs.net_cy import ImageError, net
from cdcflow.model.frame import DELETE, INSERT, UNCHANGED, UPDATE, Cell, cells, image

Row = tuple[Cell, ...]
WIDTH = 3
KEYS = st.sampled_from([b"1", b"2", b"3", b"", b"44"])
VALUES = st.one_of(st.none(), st.binary(max_size=4))


def frame(changes: list[tuple[int, Row | None, Row | None]]) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Encode (operation, before, after) as the arrays of a frame."""
    befores = [image(before) if before else b"" for _, before, _ in changes]
    afters = [image(after) if after else b"" for _, _, after in changes]
    return (
        bytes(op for op, _, _ in changes),
        b"".join(afters),
        array("i", map(len, afters)).tobytes(),
        b"".join(befores),
        array("i", map(len, befores)).tobytes(),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[bytes, Row], list[tuple[int, Row | None, Row | None]], dict[bytes, Row]]:
    """Rows that are there, changes that a source can log for them, and what is there afterwards."""
    start = {key: (key, draw(VALUES), draw(VALUES)) for key in draw(st.lists(KEYS, unique=True, max_size=4))}
    rows, changes = dict(start), []
    for _ in range(draw(st.integers(0, 12))):
        key = draw(KEYS)
        if key not in rows:
            after: Row = (key, draw(VALUES), draw(VALUES))
            changes.append((INSERT, None, after))
            rows[key] = after
            continue
        if draw(st.booleans()) and draw(st.booleans()):
            changes.append((DELETE, (key, UNCHANGED, UNCHANGED), None))
            del rows[key]
            continue
        moved = draw(KEYS) if draw(st.booleans()) else key
        if moved != key and moved in rows:
            moved = key
        logged: Row = (moved, draw(VALUES), draw(st.one_of(VALUES, st.just(UNCHANGED))))
        whole = tuple(old if new is UNCHANGED else new for new, old in zip(logged, rows[key], strict=True))
        del rows[key]
        rows[moved] = whole
        changes.append((UPDATE, (key, UNCHANGED, UNCHANGED) if moved != key else None, logged))
    return start, changes, rows


@settings(max_examples=400, deadline=None)
@given(histories())
def test_the_outcome_is_that_of_the_changes_one_by_one(
    history: tuple[dict[bytes, Row], list[tuple[int, Row | None, Row | None]], dict[bytes, Row]],
) -> None:
    rows, changes, expected = dict(history[0]), history[1], history[2]
    if not changes:
        return
    arrays = frame(changes)
    netted = net(*arrays, WIDTH, (0,))
    if netted.exact:  # only where a row moves and keeps a value that the log does not have
        assert any(op == UPDATE and before and after and UNCHANGED in after for op, before, after in changes)
        return

    def row_at(reference: int) -> list[Cell]:
        buffer, at = (arrays[1], reference) if reference >= 0 else (netted.merged, -1 - reference)
        return cells(buffer, at, WIDTH)

    spans = array("q", netted.deleted)
    for start in spans[::2]:
        (key,) = cells(netted.keys, start, 1)
        assert isinstance(key, bytes)
        del rows[key]  # a key that was not there would be an error of netting
    updated = array("q", netted.updated)
    masks = array("q", netted.updated_masks) if netted.updated_masks else array("q", [0] * len(updated))
    for reference, mask in zip(updated, masks, strict=True):
        cell = row_at(reference)
        assert [value is UNCHANGED for value in cell] == [bool(absent) for absent in netted.masks[mask]]
        assert isinstance(cell[0], bytes)
        old = rows[cell[0]]
        rows[cell[0]] = tuple(was if new is UNCHANGED else new for new, was in zip(cell, old, strict=True))
    for reference in array("q", netted.inserted):
        cell = row_at(reference)
        assert isinstance(cell[0], bytes)
        assert cell[0] not in rows
        rows[cell[0]] = tuple(cell)
    assert rows == expected


@settings(max_examples=400, deadline=None)
@given(
    st.lists(KEYS, unique=True, max_size=4),
    st.lists(st.tuples(st.sampled_from([INSERT, UPDATE, DELETE]), KEYS, VALUES, VALUES, st.booleans()), min_size=1),
)
def test_a_replayed_frame_leaves_what_one_statement_after_the_other_would(
    there: list[bytes], said: list[tuple[int, bytes, Cell, Cell, bool]]
) -> None:
    rows: dict[bytes, Row] = {key: (key, b"old", b"old") for key in there}
    expected = dict(rows)
    changes: list[tuple[int, Row | None, Row | None]] = []
    for op, key, one, other, absent in said:
        image_: Row = (key, one, UNCHANGED if absent and op == UPDATE else other)
        changes.append((op, image_, None) if op == DELETE else (op, None, image_))
        if op == DELETE:
            expected.pop(key, None)
        elif op == INSERT or key in expected:
            old = expected.get(key, image_)
            expected[key] = tuple(was if new is UNCHANGED else new for new, was in zip(image_, old, strict=True))
    arrays = frame(changes)
    netted = net(*arrays, WIDTH, (0,), True)
    assert not netted.exact

    def row_at(reference: int) -> list[Cell]:
        buffer, at = (arrays[1], reference) if reference >= 0 else (netted.merged, -1 - reference)
        return cells(buffer, at, WIDTH)

    for start in array("q", netted.deleted)[::2]:
        (key_,) = cells(netted.keys, start, 1)
        assert isinstance(key_, bytes)
        rows.pop(key_, None)
    for reference in array("q", netted.updated):
        cell = row_at(reference)
        assert isinstance(cell[0], bytes)
        if (before := rows.get(cell[0])) is not None:
            rows[cell[0]] = tuple(was if new is UNCHANGED else new for new, was in zip(cell, before, strict=True))
    for reference in array("q", netted.inserted):
        cell = row_at(reference)
        assert isinstance(cell[0], bytes)
        rows[cell[0]] = tuple(cell)
    assert rows == expected


def test_a_key_that_holds_null_asks_for_the_exact_order() -> None:
    assert net(*frame([(INSERT, None, (None, b"a", b"b"))]), WIDTH, (0,)).exact


def test_a_moved_row_that_keeps_a_value_which_the_log_lacks_asks_for_the_exact_order() -> None:
    changes: list[tuple[int, Row | None, Row | None]] = [
        (UPDATE, (b"1", UNCHANGED, UNCHANGED), (b"2", b"a", UNCHANGED))
    ]
    assert net(*frame(changes), WIDTH, (0,)).exact


@given(
    st.binary(max_size=12).map(lambda raw: bytes(b"IUDX"[byte % 4] for byte in raw)),
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.lists(st.integers(-5, 30), max_size=12),
    st.lists(st.integers(-5, 30), max_size=12),
)
def test_a_frame_that_is_not_what_it_says_is_an_image_error(
    ops: bytes, after: bytes, before: bytes, after_sizes: list[int], before_sizes: list[int]
) -> None:
    try:
        net(ops, after, array("i", after_sizes).tobytes(), before, array("i", before_sizes).tobytes(), 2, (0, 1))
    except ImageError:
        pass


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_frame_that_was_cut_is_an_image_error(cut: int) -> None:
    ops, after, sizes, before, before_sizes = frame([(UPDATE, None, (b"1", b"abc", None))])
    with pytest.raises(ImageError):
        net(ops, after[:-cut], sizes, before, before_sizes, WIDTH, (0,))
