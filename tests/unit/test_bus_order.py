"""The numbering of rows within their transactions, over steps and over the pieces of a large transaction."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.codecs.busorder_cy import Passed, spread


def ints(*numbers: int) -> bytes:
    return array("I", numbers).tobytes()


def marks(*rows: int) -> bytes:
    return array("q", [number for size in rows for number in (size, 7, 8, 9)]).tobytes()


def test_rows_are_numbered_within_their_transaction_over_all_tables_and_within_each() -> None:
    assert spread(ints(1, 5, 1, 1, 5), marks(3, 0, 2)) == {
        1: (ints(0, 0, 2), ints(1, 3, 1), ints(1, 2, 1)),
        5: (ints(0, 2), ints(2, 2), ints(1, 1)),
    }


def test_a_transaction_that_a_barrier_divides_goes_on_counting() -> None:
    passed = Passed()
    passed.batch()
    assert spread(ints(0, 0), marks(3, 1), passed) == {0: (ints(0, 0), ints(1, 2), ints(1, 2))}
    assert spread(ints(0, 0), marks(3, 1), passed) == {0: (ints(0, 1), ints(3, 1), ints(3, 1))}


def test_pieces_of_one_transaction_are_of_an_unknown_stamp_until_its_mark_comes() -> None:
    passed = Passed()
    passed.batch()
    assert spread(ints(0, 2, 2), marks(1), passed) == {
        0: (ints(0), ints(1), ints(1)),
        2: (ints(1, 1), ints(1, 2), ints(1, 2)),
    }
    passed.batch()
    assert spread(ints(2), marks(), passed) == {2: (ints(0), ints(3), ints(3))}
    passed.batch()
    assert spread(ints(2, 2), marks(1, 1), passed) == {2: (ints(0, 1), ints(4, 1), ints(4, 1))}


@pytest.mark.parametrize(("order", "told"), [(b"\0", b""), (b"", bytes(31))])
def test_what_is_no_order_is_refused(order: bytes, told: bytes) -> None:
    with pytest.raises(ValueError, match="order"):
        spread(order, told)


def test_frame_numbers_may_be_anything() -> None:
    found = spread(ints(2**32 - 1, 0, 2**32 - 1), marks(3))
    assert found == {0: (ints(0), ints(2), ints(1)), 2**32 - 1: (ints(0, 0), ints(1, 3), ints(1, 2))}
    assert spread(ints(2**31, 2**31 + 1), marks()) == {
        2**31: (ints(0), ints(1), ints(1)),
        2**31 + 1: (ints(0), ints(2), ints(1)),
    }


@given(st.lists(st.integers(0, 4)), st.lists(st.integers(0, 4)), st.data())
def test_steps_in_any_cut_give_what_one_step_gives(order: list[int], sizes: list[int], data: st.DataObject) -> None:
    whole = spread(ints(*order), marks(*sizes))
    cut = data.draw(st.integers(0, len(order)))
    passed = Passed()
    parts = [spread(ints(*part), marks(*sizes), passed) for part in (order[:cut], order[cut:])]
    for number, columns in whole.items():
        joined = tuple(b"".join(part[number][at] for part in parts if number in part) for at in range(3))
        assert joined == columns
