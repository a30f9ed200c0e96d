"""The inbox: order, joining, heartbeats, bounds, and what is handed over when."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.flow import inbox as inboxes
from cdcflow.flow.inbox import Fill, Inbox
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting, Step, Truncate
from cdcflow.model.position import Share, Shares
from tests.unit.flow_world import At

Piece = ChangeBatch | Heartbeat
ROOMY = 1 << 30


def batch(end: int, *, rows: int = 1, nbytes: int = 10, complete: bool = True, lagging: bool = False) -> ChangeBatch:
    return ChangeBatch([], At(end), 1, b"", 1.0, float(end), complete, lagging, rows, nbytes)


def beat(end: int) -> Heartbeat:
    return Heartbeat(At(end), 0.0)


def taken(inbox: Inbox, fill: Fill | None = None) -> list[Piece]:
    found = []
    while (piece := inbox.take(fill or Fill(), 0)) is not None:
        found.append(piece)
    return found


def test_what_is_waiting_is_handed_over_as_one_batch() -> None:
    inbox = Inbox(ROOMY)
    for end in (1, 2, 3):
        inbox.put(batch(end))
    (whole,) = taken(inbox)
    assert isinstance(whole, ChangeBatch)
    assert (whole.end, whole.transactions, whole.rows) == (At(3), 3, 3)


def test_a_heartbeat_moves_the_end_of_the_batch_before_it() -> None:
    inbox = Inbox(ROOMY)
    inbox.put(batch(1))
    inbox.put(beat(9))
    (whole,) = taken(inbox)
    assert whole.end == At(9)


def test_a_heartbeat_between_two_batches_is_nothing_of_its_own() -> None:
    inbox = Inbox(ROOMY)
    for piece in (batch(1), beat(2), batch(3)):
        inbox.put(piece)
    (whole,) = taken(inbox)
    assert (whole.end, getattr(whole, "rows", 0)) == (At(3), 2)


def test_heartbeats_alone_become_the_last_one() -> None:
    inbox = Inbox(ROOMY)
    for end in (1, 2, 3):
        inbox.put(beat(end))
    assert taken(inbox) == [beat(3)]


def test_a_heartbeat_inside_a_transaction_is_dropped() -> None:
    inbox = Inbox(ROOMY)
    for piece in (batch(0, complete=False), beat(5), batch(7)):
        inbox.put(piece)
    first, last = taken(inbox)
    assert isinstance(first, ChangeBatch)
    assert not first.complete
    assert last.end == At(7)


def test_a_piece_of_a_large_transaction_closes_the_batch_before_it() -> None:
    inbox = Inbox(ROOMY)
    for piece in (batch(1), batch(2), batch(2, complete=False), batch(2, complete=False), batch(3), batch(4)):
        inbox.put(piece)
    found = taken(inbox)
    assert [(getattr(each, "complete", None), each.end.value) for each in found] == [  # type: ignore[attr-defined]
        (True, 2),
        (False, 2),
        (False, 2),
        (True, 4),
    ]


def test_a_batch_ends_at_its_limits_and_one_piece_above_them_goes_alone() -> None:
    inbox = Inbox(ROOMY)
    for piece in (batch(1, rows=6), batch(2, rows=6), batch(3, rows=50), batch(4, rows=1)):
        inbox.put(piece)
    found = taken(inbox, Fill(max_rows=10))
    assert [getattr(each, "rows", 0) for each in found] == [6, 6, 50, 1]
    inbox.put(batch(5, nbytes=600))
    inbox.put(batch(6, nbytes=600))
    assert len(taken(inbox, Fill(max_bytes=1000))) == 2


def test_the_reader_waits_while_the_inbox_is_full_and_goes_on_when_it_is_not() -> None:
    inbox = Inbox(100)
    inbox.put(batch(1, nbytes=60))
    assert inbox.wait_for_room(0)
    inbox.put(batch(2, nbytes=60))
    assert not inbox.wait_for_room(0)
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(inbox.wait_for_room(10)))
    waiter.start()
    taken(inbox)
    waiter.join(10)
    assert woken == [True]


def test_the_readers_failure_comes_after_everything_before_it() -> None:
    inbox = Inbox(ROOMY)
    inbox.put(batch(1))
    inbox.fail(RuntimeError("gone"))
    assert isinstance(inbox.take(Fill(), 0), ChangeBatch)
    with pytest.raises(RuntimeError, match="gone"):
        inbox.take(Fill(), 0)


def test_while_the_source_lags_a_batch_grows_until_the_reader_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "READER_STALL_SECONDS", 0.7)
    inbox = Inbox(ROOMY)
    inbox.put(batch(1, lagging=True))
    threading.Timer(0.03, lambda: inbox.put(batch(2, lagging=True))).start()
    whole = inbox.take(Fill(), 1)
    assert isinstance(whole, ChangeBatch)
    assert whole.rows == 2


def test_while_the_source_lags_enough_rows_are_handed_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "READER_STALL_SECONDS", 3600)
    inbox = Inbox(ROOMY)
    inbox.put(batch(1, rows=30_000, lagging=True))
    assert inbox.take(Fill(), 1) is not None  # or the test ends by its limit


def test_max_delay_waits_to_fill_a_batch_and_hurry_ends_the_wait() -> None:
    inbox = Inbox(ROOMY)
    inbox.put(batch(1))
    threading.Timer(0.05, lambda: inbox.put(batch(2))).start()
    whole = inbox.take(Fill(max_delay=0.7), 1)
    assert isinstance(whole, ChangeBatch)
    assert whole.rows == 2
    inbox.put(batch(3))
    threading.Timer(0.02, inbox.hurry).start()
    assert inbox.take(Fill(max_delay=3600), 1) is not None  # or the test ends by its limit


pieces = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.integers(0, 40), st.booleans()),
        st.tuples(st.just("beat"), st.just(0), st.just(True)),
    ),
    max_size=30,
)


@given(pieces, st.integers(1, 60), st.lists(st.booleans(), max_size=30))
def test_whatever_is_put_comes_out_whole_and_in_order(
    script: list[tuple[str, int, bool]], max_rows: int, takes: list[bool]
) -> None:
    inbox, fill = Inbox(ROOMY), Fill(max_rows=max_rows)
    found: list[Piece] = []
    rows = 0
    newest = 0
    for end, (kind, size, complete) in enumerate(script, start=1):
        if kind == "beat":
            inbox.put(beat(end))
        else:
            rows += size
            inbox.put(batch(end, rows=size, complete=complete))
        if takes and takes.pop():
            found += [piece for piece in [inbox.take(fill, 0)] if piece is not None]
    found += taken(inbox, fill)
    for piece in found:
        if isinstance(piece, Heartbeat) or piece.complete:
            assert isinstance(piece.end, At)
            assert piece.end.value >= newest
            newest = piece.end.value
    assert sum(piece.rows for piece in found if isinstance(piece, ChangeBatch)) == rows
    assert inbox.nbytes == 0
    if inbox.newest is not None:
        assert str(inbox.newest) == str(newest)


def shares(**places: int) -> Shares:
    return Shares({name: Share(1, place) for name, place in places.items()})


def of_shares(end: Shares, *steps: Step) -> ChangeBatch:
    return ChangeBatch(list(steps), end, 1, b"", 1.0, 1.0, True, False, 1, 10)


def test_batches_of_the_same_shares_are_joined_also_where_a_share_came_in_between() -> None:
    inbox = Inbox(ROOMY)
    inbox.put(of_shares(shares(a=1)))
    inbox.put(of_shares(shares(a=2, b=1)))
    inbox.put(Heartbeat(shares(a=3, b=1), 0.0))
    assert [piece.end for piece in taken(inbox)] == [shares(a=3, b=1)]


@pytest.mark.parametrize("after", [shares(b=5), Shares({"a": Share(2, 1), "b": Share(1, 5)})])
def test_rows_of_a_share_are_not_joined_with_a_position_that_no_longer_guards_them(after: Shares) -> None:
    inbox = Inbox(ROOMY)
    before = of_shares(shares(a=1, b=4))
    for piece in (before, Heartbeat(after, 0.0), of_shares(after)):
        inbox.put(piece)
    assert [piece.end for piece in taken(inbox)] == [shares(a=1, b=4), after, after]


def test_a_meeting_of_shares_stays_alone() -> None:
    inbox = Inbox(ROOMY)
    nothing = Truncate((), cascade=False, restart_identity=False)
    meeting = Meeting("m", "a", 2, frozenset({"a", "b"}), nothing)
    for piece in (of_shares(shares(a=1)), of_shares(shares(a=2), meeting), of_shares(shares(a=3))):
        inbox.put(piece)
    assert [piece.end for piece in taken(inbox)] == [shares(a=1), shares(a=2), shares(a=3)]
