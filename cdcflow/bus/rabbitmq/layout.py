"""What a pipeline has at the broker, by name: the exchange, its queues or streams, the notes beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pika import spec

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.refusals import NOT_FOUND, Refused
from cdcflow.bus.rabbitmq.wire import Wire
from cdcflow.errors import ConfigError, OperatorError
from cdcflow.model.schema import TableName

Kind = Literal["quorum", "stream"]

# The key of the note that says how keys are divided.
LAYOUT: Final = "layout"
NOTES_KEY: Final = "cdcflow.notes"
# A topic exchange divides words at dots and gives * and # a meaning; % begins an escape here.
_ESCAPED: Final = {".": "%2E", "*": "%2A", "#": "%23", "%": "%25"}


@dataclass(frozen=True, slots=True)
class Layout:
    """How an exchange's messages are divided. `groups` is empty for streams, which everybody reads."""

    exchange: str
    kind: Kind
    partitions: int
    groups: tuple[str, ...] = ()
    retention: str | None = None

    @property
    def notes(self) -> str:
        """The stream of shapes, and of this layout."""
        return f"{self.exchange}.schema_changes"

    @property
    def lock(self) -> str:
        """The exclusive queue that one publisher at a time has."""
        return f"{self.exchange}.publisher"

    @property
    def super_stream(self) -> str:
        """The name under which clients of the stream protocol find all partitions."""
        return f"{self.exchange}.super"

    def bases(self) -> tuple[str, ...]:
        """What the queues' names begin with."""
        return (self.exchange,) if self.kind == "stream" or not self.groups else self.groups_in_full()

    def groups_in_full(self) -> tuple[str, ...]:
        """The groups under the exchange's name: so one permission pattern has them all."""
        return tuple(group_base(self.exchange, group) for group in self.groups)

    def queues(self) -> Iterator[tuple[str, int]]:
        """Yield each queue's name and partition."""
        for base in self.bases():
            for number in range(self.partitions):
                yield queue_name(base, number), number

    def arguments(self) -> dict[str, Any]:
        """What the queues are declared with."""
        if self.kind == "stream":
            return {"x-queue-type": "stream", **({"x-max-age": self.retention} if self.retention else {})}
        return quorum_arguments()

    def note(self, generation: int, floors: Sequence[int], made: Mapping[str, Made]) -> bytes:
        """The layout as the notes have it."""
        said = {"queue": self.kind, "partitions": self.partitions, "generation": generation}
        streams = {"made": {queue: [each.generation, each.again] for queue, each in made.items()}} if made else {}
        return json.dumps({**said, "groups": list(self.bases()), "floors": list(floors), **streams}).encode()


@dataclass(frozen=True, slots=True)
class Made:
    """How a stream came to be. generation: above those of all sessions that had published before. again: another of the
    name was deleted."""

    generation: int
    again: bool


@dataclass(frozen=True, slots=True)
class Noted:
    """The layout that a publisher has written down. `bases`: of all queues that were ever made. `floors`: by partition,
    the place, as one number, of the last message that was known to be durable. `made`: by stream; one that was made
    before that was written down lacks."""

    kind: Kind
    partitions: int
    generation: int
    bases: frozenset[str]
    floors: tuple[int, ...] = ()
    made: Mapping[str, Made] = field(default_factory=dict)

    def identity(self, queue: str) -> str:
        """Return what tells a stream from another of the same name, as `Share.identity`."""
        made = self.made.get(queue)
        return str(made.generation) if made is not None else ""


def quorum_arguments() -> dict[str, Any]:
    """A limit on deliveries would throw away what was given back too often, by a target that is down say."""
    return {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-delivery-limit": -1}


def group_base(exchange: str, group: str | None) -> str:
    """Return what the names of a group's queues begin with."""
    return exchange if group is None or group == exchange else f"{exchange}.{group}"


def queue_name(base: str, number: int) -> str:
    """Return the name of a partition's queue."""
    return f"{base}.{number}"


def base_of(queue: str, number: int) -> str:
    """Return what a queue's name begins with."""
    return queue.removesuffix(f".{number}")


def share_name(base: str, number: int) -> str:
    """Return what the state calls it, as the shares of every bus are called."""
    return f"{base}/{number}"


def share_of(queue: str) -> str:
    """Return the share of a partition's queue, given by its name."""
    base, _, number = queue.rpartition(".")
    return share_name(base, int(number))


def routing_key(table: TableName, partition: int) -> str:
    """Return `schema.table.partition`; a dot, star, hash or percent sign in a name is percent-encoded.

    Raises:
        ConfigError: it would have more than 255 bytes.
    """
    key = f"{_word(table.schema)}.{_word(table.table)}.{partition}"
    if len(key.encode()) > 255:
        raise ConfigError(
            f"the routing key of table {table} would have more than 255 bytes",
            do="give the table a shorter name with `to:` in the rules",
        )
    return key


def binding_key(partition: int) -> str:
    """Return the pattern that all messages of a partition match."""
    return f"*.*.{partition}"


def session_key(partition: int) -> str:
    """Return the routing key that reaches every group's queue of a partition, with what is said between rows."""
    return f"cdcflow.session.{partition}"


def own_key(queue: str) -> str:
    """Return the routing key that reaches one queue alone: it has four words or more."""
    return f"cdcflow.queue.{queue}"


def made_key(queue: str) -> str:
    """Return the routing key by which a queue is bound last, where a reader makes it: one that is has all the rest."""
    return f"cdcflow.made.{queue}"


def read_layout(text: bytes, address: Address) -> Noted:
    """Read what `Layout.note` wrote.

    Raises:
        OperatorError: it is no such note.
    """
    try:
        said = json.loads(text)
        kind: Kind = said["queue"]
        if kind not in ("quorum", "stream"):
            raise ValueError(f"queue: {kind}")
        floors = tuple(map(int, said.get("floors", ())))
        bases = frozenset(map(str, said["groups"]))
        made = {str(queue): Made(int(at), bool(again)) for queue, (at, again) in said.get("made", {}).items()}
        return Noted(kind, int(said["partitions"]), int(said["generation"]), bases, floors, made)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OperatorError("the note of a layout cannot be read", at=address.text, why=str(error)) from None


def declare_exchange(wire: Wire, channel: int, exchange: str) -> None:
    """Make the exchange where it is missing. Raises Refused."""
    made = spec.Exchange.Declare(0, exchange, "topic", False, True, False, False, False, {})
    wire.call(made, channel=channel)


def declare_super_stream(wire: Wire, channel: int, layout: Layout) -> None:
    """Tell clients of the stream protocol which streams are the partitions of one. Raises Refused.

    A super stream is a direct exchange with bindings that say their order:
    https://www.rabbitmq.com/docs/streams#super-streams
    """
    arguments = {"x-super-stream": True}
    made = spec.Exchange.Declare(0, layout.super_stream, "direct", False, True, False, False, False, arguments)
    wire.call(made, channel=channel)
    for queue, number in layout.queues():
        order = {"x-stream-partition-order": number}
        wire.call(spec.Queue.Bind(0, queue, layout.super_stream, str(number), False, order), channel=channel)


def declare_queue(wire: Wire, channel: int, name: str, arguments: dict[str, Any]) -> Any:
    """Make a durable queue where it is missing; return the broker's answer. Raises Refused."""
    return wire.call(spec.Queue.Declare(0, name, False, True, False, False, False, arguments), channel=channel)


def look(wire: Wire, channel: int, name: str) -> Any:
    """Return what the broker says of a queue that is there. Raises Refused."""
    return wire.call(spec.Queue.Declare(0, name, True), channel=channel)


def ready_in(wire: Wire, name: str) -> int | None:
    """Return how many messages a queue has ready, None where it is not there. Raises Refused."""
    channel = wire.channel()
    try:
        found = look(wire, channel, name)
    except Refused as refused:
        if refused.hard or refused.code != NOT_FOUND:
            raise
        return None
    wire.call(spec.Channel.Close(200, "done", 0, 0), channel=channel)
    wire.forget(channel)
    return int(found.message_count)


def bind(wire: Wire, channel: int, queue: str, exchange: str, key: str) -> None:
    """Bind a queue. Raises Refused."""
    wire.call(spec.Queue.Bind(0, queue, exchange, key, False, {}), channel=channel)


def _word(name: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in name)
