"""What of a queue may be published once more, and which confirms are open."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.bus.rabbitmq.confirms import Confirms
from cdcflow.bus.rabbitmq.doubts import Doubts, Place, Repeated, Row, Run, place_of


def said(
    doubts: Doubts, generation: int, number: int, run: str | None, row: int, *, sealed: int = 0, copied: bool = False
):
    place = Place(generation, number, sealed, row, 0)
    return doubts.doubled(place, (run.encode(), b"s") if run else None, copied=copied)


def test_what_an_earlier_session_published_is_known_when_it_comes_again() -> None:
    doubts = Doubts()
    assert not any(said(doubts, 1, n, "a", n) for n in (1, 2, 3))
    assert said(doubts, 2, 1, "a", 1)
    assert said(doubts, 2, 2, "a", 2)
    assert said(doubts, 2, 3, "a", 3)
    assert not said(doubts, 2, 4, "a", 4)
    assert not said(doubts, 2, 5, "b", 1)


def test_from_the_first_new_change_on_nothing_is_a_repetition() -> None:
    doubts = Doubts()
    for number, run in enumerate("abc", 1):
        said(doubts, 1, number, run, 1)
    assert said(doubts, 2, 1, "a", 1)
    # Of a transaction that came in pieces: it has no position, and is applied again, so the later ones must be too.
    assert not said(doubts, 2, 2, None, 1)
    assert not said(doubts, 2, 3, "c", 1)


def test_copied_rows_neither_repeat_nor_end_a_repetition() -> None:
    doubts = Doubts()
    said(doubts, 1, 1, "a", 1)
    assert not said(doubts, 2, 1, None, 1, copied=True)
    assert said(doubts, 2, 2, "a", 1)


def test_what_the_checkpoint_is_past_is_forgotten() -> None:
    doubts = Doubts()
    for number in range(1, 1001):
        said(doubts, 1, number, str(number), 1, sealed=max(0, number - 3))
    assert len(doubts.open()) <= 4
    assert not said(doubts, 2, 1, "5", 1)


def test_a_session_that_fails_twice_is_known_by_both() -> None:
    doubts = Doubts()
    for number, run in enumerate("abc", 1):
        said(doubts, 1, number, run, 1)
    assert said(doubts, 2, 1, "a", 1)
    assert said(doubts, 3, 1, "a", 1)
    assert said(doubts, 3, 2, "b", 1)
    assert said(doubts, 3, 3, "c", 1)
    assert not said(doubts, 3, 4, "d", 1)


def test_places_grow_from_session_to_session() -> None:
    earlier, later = place_of(b"1700000000/2000000000/0/1/0/0"), place_of(b"1700000001/1/0/1/0/0")
    assert earlier.whole < later.whole < 2**63


def test_confirms_in_any_order_leave_nothing_open() -> None:
    confirms = Confirms()
    confirms.sent = 10
    for tag, multiple in ((3, False), (5, True), (9, False), (7, False), (6, False)):
        confirms.confirm(tag, multiple=multiple)
    assert confirms.waiting == 2
    confirms.confirm(10, multiple=True)
    assert confirms.waiting == 0


def test_what_was_repeated_is_known_once_more_behind_a_checkpoint_in_its_middle() -> None:
    doubts = Doubts()
    for number, run in enumerate("abc", 1):
        said(doubts, 1, number, run, 1)
    assert said(doubts, 2, 1, "a", 1)
    assert said(doubts, 2, 2, "b", 1, sealed=1)
    assert said(doubts, 3, 1, "b", 1)
    assert said(doubts, 3, 2, "c", 1)
    assert not said(doubts, 3, 3, "d", 1)


def test_copied_rows_of_a_stream_tell_that_what_is_before_them_is_sealed() -> None:
    doubts = Doubts(stream=True)
    for number in range(1, 101):
        said(doubts, 1, number, None, number, sealed=max(0, number - 10), copied=True)
    assert doubts.sealed_since(Place(1, 1, 0, 1, 0))
    assert doubts.open() == {}


class Publishing:
    """A publisher of numbered changes to one partition, killed and started again. `sent` is what the partition holds:
    a place, the change's run, and whether it is a copied row."""

    def __init__(self, data: st.DataObject, *, stream: bool) -> None:
        self._data, self._stream = data, stream
        self.sent: list[tuple[Place, Run | None, bool]] = []
        self.published = self._checkpoint = 0

    def sessions(self, count: int) -> None:
        """Go through so many sessions, one after the other."""
        for generation in range(1, count + 1):
            self._session(generation)

    def _session(self, generation: int) -> None:
        """Go on at the checkpoint, until the end or a kill."""
        repeated = Repeated(self._read_back()) if self._stream else Repeated({})
        number = sealed = 0
        at = self._checkpoint
        for what in self._data.draw(st.lists(st.sampled_from("ccccrrsk"), max_size=12)):
            if what == "k":
                return
            if what == "s":  # everything so far is settled, and the checkpoint saved
                self._checkpoint = at
                sealed = sealed if repeated else number
            elif what == "r":
                number += 1
                self.sent.append((Place(generation, number, sealed, 1, 0), None, True))
            else:
                run = (str(at).encode(), b"")
                at += 1
                self.published = max(self.published, at)
                if repeated.is_one(run, (1, 0)):
                    continue
                number += 1
                self.sent.append((Place(generation, number, sealed, 1, 0), run, False))

    def _read_back(self) -> dict[Run, Row]:
        """As `claim.read_back`, with windows as small as the changes are few."""
        window = 2
        while True:
            start, doubts = max(0, len(self.sent) - window), Doubts(stream=True)
            for place, run, copied in self.sent[start:]:
                doubts.doubled(place, run, copied=copied)
            if start == 0 or doubts.sealed_since(self.sent[start][0]):
                return doubts.open()
            window *= 2


@settings(max_examples=500)
@given(st.data())
def test_a_queue_is_read_once_however_often_its_publisher_dies(data: st.DataObject) -> None:
    publisher = Publishing(data, stream=False)
    publisher.sessions(5)
    doubts = Doubts()
    applied = [
        run for place, run, copied in publisher.sent if not doubts.doubled(place, run, copied=copied) and not copied
    ]
    assert applied == [(str(each).encode(), b"") for each in range(publisher.published)]


@settings(max_examples=500)
@given(st.data())
def test_a_stream_holds_everything_once_however_often_its_publisher_dies(data: st.DataObject) -> None:
    publisher = Publishing(data, stream=True)
    publisher.sessions(5)
    held = [run for _, run, copied in publisher.sent if not copied]
    assert held == [(str(each).encode(), b"") for each in range(publisher.published)]
