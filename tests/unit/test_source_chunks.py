"""Dividing a table, and what is left of a copy that was broken off: against a table made of row versions."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.errors import CopyRestart
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName
from cdcflow.sources.postgres import chunks
from cdcflow.sources.postgres.chunks import Leaf, Range

NAME = TableName("public", "t")
ROUTE = Route(Table(NAME, 7, ()), NAME, (), ("id",))
KEYLESS = Route(Table(NAME, 7, ()), NAME, (), ())


def done(low: str, high: str = "", *, number: int = 0, token: str = "100", since: str = "") -> DoneChunk:
    return DoneChunk(Chunk(7, number, low, high, since), "0/1", token, 1, 1)


def bounds(planned: list[Chunk]) -> list[tuple[str, str, str]]:
    return [(chunk.low, chunk.high, chunk.changed_since) for chunk in planned]


def test_a_fresh_table_is_divided_and_the_last_chunk_is_open() -> None:
    planned = chunks.plan(ROUTE, [Leaf(7, 70, 25, 10, 1000)], [], 100)
    assert bounds(planned) == [("7:70:0", "7:70:10", ""), ("7:70:10", "7:70:20", ""), ("7:70:20", "", "")]
    assert [chunk.estimated_rows for chunk in planned] == [400, 400, 200]
    assert [chunk.number for chunk in planned] == [0, 1, 2]


def test_an_empty_table_is_one_open_chunk() -> None:
    assert bounds(chunks.plan(ROUTE, [Leaf(7, 70, 0, 10, 0)], [], 100)) == [("7:70:0", "", "")]


def test_each_leaf_of_a_partition_tree_has_chunks_of_its_own() -> None:
    planned = chunks.plan(ROUTE, [Leaf(8, 80, 5, 10, 0), Leaf(9, 90, 15, 10, 0)], [], 100)
    assert bounds(planned) == [("8:80:0", "", ""), ("9:90:0", "9:90:10", ""), ("9:90:10", "", "")]


def test_finished_ranges_are_read_for_changes_and_the_gaps_whole() -> None:
    finished = [done("7:70:0", "7:70:10"), done("7:70:20", "7:70:30", number=2)]
    planned = chunks.plan(ROUTE, [Leaf(7, 70, 35, 10, 0)], finished, 200)
    assert bounds(planned) == [
        ("7:70:0", "7:70:10", "100"),
        ("7:70:10", "7:70:20", ""),
        ("7:70:20", "7:70:30", "100"),
        ("7:70:30", "", ""),
    ]
    assert [chunk.number for chunk in planned] == [3, 4, 5, 6]


def test_a_range_that_was_read_for_changes_counts_from_that_view() -> None:
    finished = [done("7:70:0"), done("7:70:0", "7:70:40", number=1, token="200", since="100")]
    planned = chunks.plan(ROUTE, [Leaf(7, 70, 50, 10, 0)], finished, 300)
    assert bounds(planned) == [("7:70:0", "7:70:40", "200"), ("7:70:40", "", "100")]


def test_a_range_read_for_changes_since_a_later_view_than_it_was_whole_at_does_not_count() -> None:
    finished = [done("7:70:0"), done("7:70:0", number=1, token="300", since="200")]
    assert bounds(chunks.plan(ROUTE, [Leaf(7, 70, 5, 10, 0)], finished, 400)) == [("7:70:0", "", "100")]


def test_a_view_too_old_to_tell_new_rows_from_old_is_read_whole() -> None:
    planned = chunks.plan(ROUTE, [Leaf(7, 70, 5, 10, 0)], [done("7:70:0")], 100 + chunks.MOST_TRANSACTIONS + 1)
    assert bounds(planned) == [("7:70:0", "", "")]


@pytest.mark.parametrize("leaves", [[Leaf(7, 71, 5, 10, 0)], [Leaf(8, 70, 5, 10, 0)], []])
def test_a_table_with_another_file_or_other_leaves_starts_over(leaves: list[Leaf]) -> None:
    with pytest.raises(CopyRestart):
        chunks.plan(ROUTE, leaves, [done("7:70:0")], 200)


def test_a_table_without_a_key_starts_over() -> None:
    with pytest.raises(CopyRestart):
        chunks.plan(KEYLESS, [Leaf(7, 70, 5, 10, 0)], [done("7:70:0")], 200)


# -- a table of row versions, a log of its changes, and copies that are broken off


@dataclass
class Version:
    """A row version as the heap has it."""

    key: int
    value: int
    block: int
    xmin: int
    xmax: int = 0


@dataclass
class Heap:
    """A table that transactions work on, some of them open for a while."""

    versions: list[Version] = field(default_factory=list)
    next_xid: int = 100
    open: dict[int, list[Version]] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    blocks: int = 1

    def view(self) -> tuple[int, frozenset[int]]:
        """Return xmin and what is committed now."""
        return min(self.open, default=self.next_xid), frozenset(self.committed)

    def visible(self, committed: frozenset[int]) -> list[Version]:
        return [v for v in self.versions if v.xmin in committed and v.xmax not in committed]

    def begin(self) -> int:
        self.next_xid += 1
        self.open[self.next_xid - 1] = []
        return self.next_xid - 1

    def write(self, xid: int, key: int, value: int | None, block: int) -> None:
        """Insert, update or delete by key, as one writer a row: a row that an open transaction wrote is left alone."""
        mine = [v for v in self.versions if v.key == key and (v.xmin in self.committed or v.xmin in self.open)]
        live = [v for v in mine if v.xmax not in self.committed and v.xmax != xid]
        if any((v.xmin in self.open and v.xmin != xid) or (v.xmax in self.open and v.xmax != xid) for v in mine):
            return
        for version in live:
            version.xmax = xid
        if value is not None:
            self.blocks = max(self.blocks, block + 1)
            self.versions.append(Version(key, value, block, xid))

    def end(self, xid: int, *, commit: bool) -> None:
        del self.open[xid]
        if commit:
            self.committed.add(xid)
        else:
            for version in self.versions:
                if version.xmax == xid:
                    version.xmax = 0


actions = st.lists(
    st.tuples(
        st.sampled_from(["begin", "write", "write", "write", "delete", "commit", "abort", "copy"]),
        st.integers(0, 12),  # key, or which transaction
        st.integers(0, 30),  # block, or how many chunks get through
    ),
    max_size=80,
)


@settings(max_examples=400, deadline=None)
@given(actions, st.integers(1, 5))
def test_a_copy_broken_off_any_number_of_times_has_every_row_of_its_last_view(
    script: list[tuple[str, int, int]], step: int
) -> None:
    heap, target, finished = Heap(), dict[int, int](), list[DoneChunk]()
    values = iter(range(1, 10_000))

    def copy(limit: int | None) -> None:
        xmin, committed = heap.view()
        planned = chunks.plan(ROUTE, [Leaf(7, 70, heap.blocks, step, 0)], finished, xmin)
        for chunk in planned[:limit]:
            piece = Range.of(chunk)
            for version in heap.visible(committed):
                inside = piece.low <= version.block and (piece.high is None or version.block < piece.high)
                if inside and (not chunk.changed_since or version.xmin >= int(chunk.changed_since)):
                    target[version.key] = version.value
            finished.append(DoneChunk(chunk, "0/1", str(xmin), 0, 0))

    for action, which, number in script:
        transactions = list(heap.open)
        if action == "begin" or (action in ("write", "delete") and not transactions):
            heap.begin()
        elif action == "copy":
            copy(number % 7)
        elif transactions:
            xid = transactions[which % len(transactions)]
            if action in ("commit", "abort"):
                heap.end(xid, commit=action == "commit")
            else:
                heap.write(xid, which, next(values) if action == "write" else None, number)
    copy(None)
    _, committed = heap.view()
    for version in heap.visible(committed):
        assert target.get(version.key) == version.value
