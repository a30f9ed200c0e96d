"""What a publisher does before anything is sent: frames cut, rows of messages found."""

from __future__ import annotations

import itertools
import threading
from array import array
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdcflow.bus.formats import Messages, Stamp, Stamps, Writer
from cdcflow.bus.kafka import loader, publisher
from cdcflow.model.frame import RowBatch, concatenate, image
from cdcflow.model.route import Route


def frame_of(rows: int) -> tuple[RowBatch, Stamps]:
    """Return inserts, updates with and without an old image, and deletes, of several transactions."""
    after, after_sizes, before, before_sizes = b"", array("i"), b"", array("i")
    for n in range(rows):
        new = image([b"%d" % n, b"x" * (n % 7)]) if n % 4 != 3 else b""
        old = image([b"%d" % n, None]) if n % 4 >= 2 else b""
        after, before = after + new, before + old
        after_sizes.append(len(new))
        before_sizes.append(len(old))
    ops = bytes(b"IUUD"[n % 4] for n in range(rows))
    frame = RowBatch(
        cast("Route", None), ("a", "b"), ops, after, after_sizes.tobytes(), before, before_sizes.tobytes(), True
    )
    numbers = array("I", range(rows)).tobytes()
    return frame, Stamps(numbers, numbers, numbers, [Stamp(str(n)) for n in range(rows)])


@pytest.mark.parametrize(("rows", "nbytes"), [(3, 1 << 20), (1000, 200), (4096, 1 << 20), (5, 1)])
def test_pieces_of_a_frame_hold_its_rows_once_and_in_order(
    rows: int, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_PIECE_ROWS", rows)
    monkeypatch.setattr(publisher, "_PIECE_BYTES", nbytes)
    frame, stamps = frame_of(100)
    pieces = list(publisher._pieces(frame, stamps))
    assert len(pieces) > 1 or rows >= 100
    assert concatenate([piece for piece, _ in pieces]) == frame
    assert b"".join(stamped.of_row for _, stamped in pieces) == stamps.of_row
    assert [len(stamped.order) // 4 for _, stamped in pieces] == [len(piece) for piece, _ in pieces]


@pytest.mark.parametrize(
    ("starts", "rows"), [([0, 1, 2], [0, 1]), ([0, 2, 3], [0, 0, 1]), ([0, 0, 2], [1, 1]), ([0, 0, 3, 3], [1, 1, 1])]
)
def test_each_message_knows_its_row(starts: list[int], rows: list[int]) -> None:
    count = starts[-1]
    messages = Messages(array("I", starts).tobytes(), [None] * count, [b""] * count, bytes(4 * count), b"c" * count)
    assert publisher._rows_of(messages, len(starts) - 1) == rows


def test_a_block_is_cut_between_lines_and_one_that_ends_inside_of_one_is_cut_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loader, "_PIECE_BYTES", 4)
    for block, cut in (
        (b"aaaaaa\nbb\nccc\n", [b"aaaaaa\n", b"bb\nccc\n"]),
        (b"aaaaaa\nbbbbbbb", [b"aaaaaa\n", b"bbbbbbb"]),
    ):
        assert [piece for piece in itertools.islice(loader._pieces(block), 9) if piece] == cut


def test_marks_of_two_producers_stand_in_the_same_order_in_each_partition() -> None:
    """The second begins while the first has sent to one partition of four, and has to wait."""
    sent: dict[int, list[str]] = {}
    catalog = SimpleNamespace(order="key", signals="events", is_compacted=lambda _: False, alone=threading.Lock())
    lane = publisher.Lane("all", 4, None, cast("Route", None), cast("Writer", None), ("", b""))

    class Session:
        def __init__(self, name: str, begun: Callable[[], None] = lambda: None) -> None:
            self._name, self._begun = name, begun

        def send(self, _topic: str, _value: None, _key: None, partition: int, _headers: object) -> None:
            sent.setdefault(partition, []).append(self._name)
            self._begun()

        def flush(self) -> None:
            sent.setdefault(-1, []).append(self._name)

    def made(session: Session) -> publisher.Publisher:
        return publisher.Publisher(cast(Any, session), cast(Any, catalog), cast(Any, None))

    other = threading.Thread(target=made(Session("second")).part, args=[lane])

    def begin_other() -> None:
        if not other.ident:
            other.start()
            other.join(0.3)

    made(Session("first", begin_other)).part(lane)
    other.join(10)
    assert sent == {partition: ["first", "second"] for partition in (0, 1, 2, 3, -1)}
