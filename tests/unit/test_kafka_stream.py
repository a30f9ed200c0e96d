"""A member of a group over a client that does in one call what a real one does only now and then."""

from __future__ import annotations

from cdcflow.model.change import ChangeBatch, Heartbeat
from cdcflow.model.position import Shares
from tests.unit.kafka_double import (
    TOPIC,
    Client,
    ids,
    meeting,
    row,
    stream_of,
)


def test_messages_that_come_with_the_revocation_of_another_partition_are_read() -> None:
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    client.script = [[row(0, 0)], [row(0, 1), row(1, 0), lambda: client.take(1), row(0, 2)]]

    assert ids(stream.read(0.0), stream.read(0.0)) == [0, 1, 2]


def test_what_was_skipped_at_a_meeting_is_read_behind_it_also_where_later_messages_are_at_hand() -> None:
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    met = [meeting(0, 0, 2), row(0, 1), meeting(1, 0, 2), row(0, 2), row(1, 1)]
    client.script = [[met[0]], [*met[1:]]]
    pieces = [stream.read(0.0), stream.read(0.0)]
    assert sum(isinstance(piece, ChangeBatch) for piece in pieces) == 2
    for number in (0, 1):
        stream.resume(f"{TOPIC}/{number}", 1)
    # The client brings again what is behind the place that was sought.
    client.script = [[], [], [row(0, 1)], [row(0, 2), row(1, 1)]]
    rows = ids(*(stream.read(0.0) for _ in range(4)))

    assert sorted(rows) == [1, 2, 101]
    assert client.sought == [(0, 1), (1, 1)]


def test_who_applies_is_told_of_a_share_that_was_lost_though_nothing_follows() -> None:
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    client.script = [[row(0, 0)], [], [lambda: client.lose(0, 1)]]
    assert ids(stream.read(0.0)) == [0]
    piece = stream.read(0.0)

    assert isinstance(piece, Heartbeat)
    assert piece.end == Shares({})


def test_the_end_names_what_is_held(  # a share that was taken is in no position any more
) -> None:
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    client.script = [[row(0, 0)], [lambda: client.take(1)]]
    piece = stream.read(0.0)

    assert piece is not None
    assert isinstance(piece.end, Shares)
    assert set(piece.end.shares) == {f"{TOPIC}/0"}


def test_a_word_for_an_earlier_meeting_does_not_end_a_later_one() -> None:
    client = Client()
    stream = stream_of(client)
    client.give(0)
    client.script = [[meeting(0, 0, 2), row(0, 1)], []]
    stream.read(0.0)
    stream.resume(f"{TOPIC}/0", 1)
    client.script = [[], [], [meeting(0, 1, 2), row(0, 2)], []]
    while client.script:
        stream.read(0.0)
    stream.resume(f"{TOPIC}/0", 1)
    client.script = [[row(0, 2)], []]
    assert ids(stream.read(0.0)) == []
    stream.resume(f"{TOPIC}/0", 2)
    client.script = [[row(0, 2)], []]
    assert ids(stream.read(0.0)) == [2]
