"""A member of a group over a client that does in one call what a real one does only now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition, Uuid

from cdcflow.bus.formats import MEETING, SCHEMA
from cdcflow.bus.kafka.letters import DeadLetters
from cdcflow.bus.kafka.partitions import Cluster
from cdcflow.bus.kafka.starts import Starts
from cdcflow.bus.kafka.stream import KafkaStream
from cdcflow.bus.kafka.topics import id_of
from cdcflow.bus.kafka.watch import Seen, TopicWatch
from cdcflow.bus.reading import Reading
from cdcflow.errors import CdcflowError, OperatorError, PositionLost, SourceChanged, SourceUnavailable
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting
from cdcflow.model.position import Share, Shares
from tests.unit.bus_double import FORMAT, Told, in_order, route_of, said, table

TOPIC = "p.public.t"
TWO = table("id", "v")


@dataclass
class Sent:
    """A message as the client hands it over."""

    number: int  # of the partition
    place: int
    body: bytes | None = None
    more: Sequence[tuple[str, bytes]] = ()

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.place

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes | None:
        return self.body

    def headers(self) -> list[tuple[str, bytes]]:
        return [(SCHEMA, b"two"), *self.more]

    def error(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 1000


@dataclass
class Failed(Sent):
    """An error in a message's place."""

    why: KafkaError | None = None

    def error(self) -> KafkaError | None:  # type: ignore[override]
        return self.why


def row(partition: int, offset: int) -> Sent:
    return Sent(partition, offset, said("c", {"id": str(100 * partition + offset), "v": "a"}))


def meeting(partition: int, offset: int, of: int) -> Sent:
    return Sent(partition, offset, said("t", None), [(MEETING, b"m%d/%d" % (offset, of))])


@dataclass
class Client:
    """A consumer whose `poll` and `consume` return what stands in `script`; a callable in it is called on the way, as
    the real one calls about the group."""

    script: list[list[Sent | Callable[[], None]]] = field(default_factory=list)
    sought: list[tuple[int, int]] = field(default_factory=list)
    committed: list[tuple[int, int]] = field(default_factory=list)
    closed: int = 0
    heard: Any = None
    refusals: list[KafkaError] = field(default_factory=list)  # of subscriptions to come
    assigned: Any = None
    revoked: Any = None
    lost: Any = None

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.assigned, self.revoked, self.lost = on_assign, on_revoke, on_lost
        if self.refusals:
            raise KafkaException(self.refusals.pop())

    def _next(self) -> list[Sent]:
        steps = self.script.pop(0) if self.script else []
        found: list[Sent] = []
        for step in steps:
            if isinstance(step, Sent):
                found.append(step)
            else:
                step()
        return found

    def poll(self, wait: float) -> Sent | None:
        return next(iter(self._next()), None)

    def consume(self, count: int, timeout: float) -> list[Sent]:
        return self._next()

    def seek(self, to: TopicPartition) -> None:
        self.sought.append((to.partition, to.offset))

    def give(self, *partitions: int) -> None:
        self.assigned(self, [TopicPartition(TOPIC, number) for number in partitions])

    def take(self, *partitions: int) -> None:
        self.revoked(self, [TopicPartition(TOPIC, number) for number in partitions])

    def lose(self, *partitions: int) -> None:
        self.lost(self, [TopicPartition(TOPIC, number) for number in partitions])

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> None:
        self.committed += [(one.partition, one.offset) for one in offsets]

    def close(self) -> None:
        self.closed += 1
        self.take(0, 1)

    def get_watermark_offsets(self, of: TopicPartition, cached: bool) -> None:
        return None

    def incremental_assign(self, partitions: Any) -> None: ...

    def incremental_unassign(self, partitions: Any) -> None: ...

    def pause(self, partitions: Any) -> None: ...

    def resume(self, partitions: Any) -> None: ...


@dataclass
class Topics:
    """The one topic, always there; every partition of it begins at 0 and has grown to 50."""

    away: bool = False
    more: bool = False

    def begin(self) -> list[str]:
        return [TOPIC]

    def answers(self, limit: float = 3.0) -> bool:
        return not self.away

    def look(self, *, urgent: bool = False) -> Seen | None:
        if self.away:
            raise SourceUnavailable("no broker answers")
        return Seen([TOPIC], changed=self.more) if urgent or self.more else None

    def starts(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return dict.fromkeys(partitions, 0)

    def ends(self, partitions: Sequence[tuple[str, int]], *, committed: bool = True) -> dict[tuple[str, int], int]:
        return dict.fromkeys(partitions, 50)

    def ids(self, topics: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "an id")


class Letters:
    def deliver(self, letters: Sequence[object]) -> None: ...


class Claimed:
    """Claims of a group's first member, or of a later one where something is on record."""

    def __init__(self, **recorded: int) -> None:
        self.places = {f"{TOPIC}/{number.removeprefix('p')}": place for number, place in recorded.items()}

    def take(self, names: Sequence[str]) -> Mapping[str, Share]:
        return {name: Share(1, self.places.get(name, 0)) for name in names}

    def recorded(self) -> Mapping[str, Share]:
        return {name: Share(1, place) for name, place in self.places.items()}

    def begin(self, places: Mapping[str, int]) -> None:
        self.places = {**places, **self.places}

    def identify(self, shares: Mapping[str, Share]) -> None: ...

    def give(self, names: Sequence[str]) -> None: ...

    def lost(self, names: Sequence[str]) -> None: ...


def starts(begin: Any = "earliest", partitions: int = 2) -> Starts:
    return Starts(
        cast("Cluster", Topics()),
        begin,
        {TOPIC: partitions},
        lambda partitions: dict.fromkeys(partitions, False),
        "here",
    )


def stream_of(client: Client, topics: Topics | None = None) -> KafkaStream:
    def made(heard: Any) -> Any:
        client.heard = heard
        return client

    watch = cast("TopicWatch", topics or Topics())
    reading = Reading(FORMAT, Told((TWO, "two")), route_of, {})
    letters = cast("DeadLetters", Letters())
    return KafkaStream(made, watch, starts(), reading, letters, Claimed(), "here")


def ids(*pieces: object) -> list[int]:
    return [
        int(after[0])
        for piece in pieces
        if isinstance(piece, ChangeBatch) and not isinstance(piece.steps[0], Meeting)
        for _, _, after in in_order(piece.steps)
        if after is not None
    ]


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


def began(begin: str, claims: Claimed, partitions: int = 2, *numbers: int) -> list[int]:
    """Return where partitions begin, of as many as there were when the stream began."""
    names = [f"{TOPIC}/{number}" for number in numbers or range(partitions)]
    found = starts(begin, partitions).take(names, claims)
    return [found[name].place for name in names]


def test_a_partition_that_was_empty_when_it_was_claimed_first_is_not_begun_at_its_end_by_the_next_owner() -> None:
    assert began("latest", Claimed()) == [50, 50]
    assert began("latest", Claimed(p0=0, p1=7)) == [0, 7]
    assert began("earliest", Claimed()) == [0, 0]
    assert began("earliest", Claimed(p0=0, p1=7)) == [0, 7]


def test_what_was_removed_behind_the_first_claim_is_lost_also_where_nothing_had_been_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claims = Claimed()
    assert began("earliest", claims, 1) == [0]
    monkeypatch.setattr(Topics, "starts", lambda self, partitions: dict.fromkeys(partitions, 30))
    for begin in ("earliest", "latest"):
        with pytest.raises(PositionLost, match="no longer hold") as raised:
            began(begin, claims, 1)
        assert "offsets 0 to 29" in raised.value.why
    assert began("earliest", claims, 2, 1) == [30]  # nobody had claimed that one
    assert began("latest", claims, 2, 1) == [30]


def test_a_partition_that_was_added_while_nobody_ran_is_begun_at_its_start_also_where_others_began_at_their_end() -> (
    None
):
    claims = Claimed()
    assert began("latest", claims, 2, 0) == [50]
    assert began("latest", claims, 3, 1) == [50]  # it was there with the first, whoever claims it
    assert began("latest", claims, 3, 2) == [0]


def test_a_topic_that_came_behind_the_first_claim_is_begun_at_its_start_by_whatever_session_claims_it() -> None:
    later = "p.public.u"
    for known in ({TOPIC: 2}, {TOPIC: 2, later: 1}):  # it was there when the one that claims it began, or was not
        one = Starts(cast("Cluster", Topics()), "latest", known, lambda _: {}, "here")
        assert one.take([f"{later}/0"], Claimed(p0=50, p1=50))[f"{later}/0"].place == 0


def test_all_topics_are_begun_at_their_end_with_the_first_claim_of_all() -> None:
    other, claims = "p.public.u", Claimed()
    both = {TOPIC: 2, other: 1}
    for known in (both, {**both, "p.public.v": 1}):
        one = Starts(cast("Cluster", Topics()), "latest", known, lambda _: {}, "here")
        assert one.take([f"{TOPIC}/0"], claims)[f"{TOPIC}/0"].place == 50
    assert claims.places == dict.fromkeys([f"{TOPIC}/0", f"{TOPIC}/1", f"{other}/0"], 50)


def test_a_topic_that_was_made_anew_before_its_first_claim_is_not_taken_for_the_one_there_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Named(Claimed):
        identities: ClassVar[dict[str, str]] = {}

        def recorded(self) -> Mapping[str, Share]:
            return {name: Share(1, place, self.identities.get(name, "")) for name, place in self.places.items()}

        def take(self, names: Sequence[str]) -> Mapping[str, Share]:
            return {name: self.recorded()[name] for name in names}

        def identify(self, shares: Mapping[str, Share]) -> None:
            self.identities.update({name: at.identity for name, at in shares.items()})

    claims = Named()
    assert began("latest", claims, 2, 0) == [50]
    monkeypatch.setattr(Topics, "ids", lambda self, topics: dict.fromkeys(topics, "another id"))
    with pytest.raises(SourceChanged, match="made anew since it was read"):
        began("latest", claims, 2, 1)


def test_an_onlooker_begins_at_the_end() -> None:
    class Onlooker(Claimed):
        def take(self, names: Sequence[str]) -> Mapping[str, Share]:
            return {name: Share(0, 0) for name in names}

        def begin(self, places: Mapping[str, int]) -> None: ...

    assert began("latest", Onlooker()) == [50, 50]
    assert began("earliest", Onlooker()) == [0, 0]


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


def test_brokers_that_have_no_ids_of_topics_say_nothing_of_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Named(Claimed):
        def take(self, names: Sequence[str]) -> Mapping[str, Share]:
            return {name: Share(1, 7, "an id of before") for name in names}

    monkeypatch.setattr(Topics, "ids", lambda self, topics: dict.fromkeys(topics, id_of(Uuid(0, 0))))
    assert began("earliest", Named()) == [7, 7]


def failed(code: int, words: str = "", partition: int = 0) -> Failed:
    return Failed(partition, 0, why=KafkaError(code, words) if words else KafkaError(code))


@pytest.mark.parametrize(
    ("code", "words", "meaning", "said"),
    [
        # As librdkafka 2.16 words them, in groups of both kinds.
        (KafkaError._FATAL, "Fatal error: {}: Fatal consumer error: {}", OperatorError, "has the same `instance`"),
        (KafkaError._FATAL, "Fatal error: {}: ConsumerGroupHeartbeat: {}", OperatorError, "has the same `instance`"),
        (KafkaError._FATAL, "Fatal error: out of luck", SourceUnavailable, "cannot be used now"),
        (KafkaError._MAX_POLL_EXCEEDED, "", SourceUnavailable, "nothing was read for too long"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "", CdcflowError, "does not permit"),
        (KafkaError._BAD_COMPRESSION, "", SourceUnavailable, "cannot be used now"),
    ],
)
def test_what_a_member_ends_with(code: int, words: str, meaning: type[CdcflowError], said: str) -> None:
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    fenced = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
    client.script = [[failed(code, words.format(fenced, fenced))]]
    with pytest.raises(meaning, match=said):
        stream.read(0.0)


def test_a_member_whose_killed_self_the_group_still_has_tries_again() -> None:
    client = Client()
    stream = stream_of(client)
    words = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()
    client.script = [[failed(KafkaError._FATAL, f"Fatal error: {words}: ConsumerGroupHeartbeat fatal error: {words}")]]
    with pytest.raises(SourceUnavailable, match="has a member of the same `instance`"):
        stream.read(0.0)


def test_one_fetch_that_a_broker_refuses_is_no_end_and_a_row_of_them_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    client.script = [[failed(KafkaError.UNKNOWN)], [row(0, 0)]]
    assert ids(stream.read(0.0)) == [0]
    now += 60
    client.script = [[failed(KafkaError.UNKNOWN)], [row(1, 0)]]
    assert ids(stream.read(0.0)) == [100]
    client.script = [[failed(KafkaError.UNKNOWN)] if turn % 2 == 0 else [] for turn in range(200)]
    began, ended = now, ""
    while not ended and client.script:
        now += 0.5
        try:
            stream.read(0.0)
        except SourceUnavailable as error:
            ended = error.what
    assert "cannot be used now" in ended
    assert now - began > 20


def test_refusals_with_an_answer_between_them_are_not_in_a_row_and_others_are_however_rare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    client = Client()
    stream = stream_of(client)
    client.give(0, 1)
    for _ in range(5):
        now += 15
        client.script = [[failed(KafkaError.UNKNOWN)], [failed(KafkaError._PARTITION_EOF)]]
        stream.read(0.0)
    client.script = [[failed(KafkaError.UNKNOWN)], []]
    stream.read(0.0)
    now += 15
    client.script = [[failed(KafkaError.UNKNOWN)], []]
    stream.read(0.0)
    now += 15
    client.script = [[failed(KafkaError.UNKNOWN)], []]
    with pytest.raises(SourceUnavailable, match="cannot be used now"):
        stream.read(0.0)


def test_nothing_is_committed_while_the_brokers_are_away_and_all_of_it_when_they_are_back() -> None:
    client, topics = Client(), Topics()
    stream = stream_of(client, topics)
    client.give(0, 1)
    topics.away = True
    client.heard(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    stream.ack(Shares({f"{TOPIC}/0": Share(1, 7)}))
    stream.read(0.0)
    client.take(1)
    assert client.committed == []
    topics.away = False
    for _ in range(2):
        stream.read(0.0)
    assert client.committed == [(0, 7)]


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("away", [False, True])
def test_a_group_is_left_where_a_broker_answers(away: bool, heard: bool) -> None:
    client, topics = Client(), Topics()
    stream = stream_of(client, topics)
    client.give(0, 1)
    if heard:
        client.heard(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    stream.ack(Shares({f"{TOPIC}/0": Share(1, 7)}))
    topics.away = away
    stream.close()
    stream.close()
    assert (client.closed, client.committed) == ((0, []) if away else (1, [(0, 7)]))


@pytest.mark.parametrize("idle", [False, True])
def test_a_later_subscription_that_the_client_refuses_is_an_outage(idle: bool) -> None:
    client, topics = Client(), Topics(more=True)
    stream = stream_of(client, topics)
    client.refusals = [KafkaError(KafkaError._STATE, "not now")]
    with pytest.raises(SourceUnavailable, match="cannot be used now"):
        stream.idle() if idle else stream.read(0.0)


def test_a_later_subscription_of_a_client_that_is_of_no_more_use_ends_with_the_reason() -> None:
    client, topics = Client(), Topics(more=True)
    stream = stream_of(client, topics)
    client.refusals = [KafkaError(KafkaError._FATAL, "Failed to set subscription: Local: Fatal error")]
    why = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
    client.script = [[failed(KafkaError._FATAL, f"Fatal error: {why}: {why}")]]
    with pytest.raises(OperatorError, match="the same `instance`"):
        stream.read(0.0)


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
