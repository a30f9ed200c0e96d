"""A client of Kafka that does in one call what a real one does only now and then, and a stream over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from cdcflow.bus.formats import MEETING, SCHEMA
from cdcflow.bus.kafka.letters import DeadLetters
from cdcflow.bus.kafka.partitions import Cluster
from cdcflow.bus.kafka.starts import Starts
from cdcflow.bus.kafka.stream import KafkaStream
from cdcflow.bus.kafka.watch import Seen, TopicWatch
from cdcflow.bus.reading import Reading
from cdcflow.errors import SourceUnavailable
from cdcflow.model.change import ChangeBatch, Meeting
from cdcflow.model.position import Share
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

    def answers(self, *, patient: bool) -> bool:
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


def failed(code: int, words: str = "", partition: int = 0) -> Failed:
    return Failed(partition, 0, why=KafkaError(code, words) if words else KafkaError(code))
