"""Whether all that queues held at a moment is durable: whoever reads them answers a message behind it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from pika import spec

from cdcflow.bus.rabbitmq.address import Address
from cdcflow.bus.rabbitmq.doubts import END, PLACE
from cdcflow.bus.rabbitmq.layout import bind, own_key, queue_name, share_name
from cdcflow.bus.rabbitmq.notes import KEY, post
from cdcflow.bus.rabbitmq.wire import Event, Wire, short
from cdcflow.codecs.amqpheaders_cy import headers_of
from cdcflow.errors import SourceUnavailable
from cdcflow.model.position import Position, Share

# A question, or its answer, may be lost with a connection.
_AGAIN_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What queues hold when it is asked for: how much that is, nobody can tell. The end that a queue can name."""

    shares: frozenset[str]

    def covers(self, other: Position) -> bool:
        """Queues are not compared."""
        return False

    def distance(self, other: Position) -> int | None:
        """Not known."""
        return None

    def at(self, number: int) -> Position:
        """A bus's batches have no marks."""
        return self

    def __str__(self) -> str:
        return ", ".join(f"{name}: what it holds" for name in sorted(self.shares))


class Asking:
    """Asks the readers of all queues of a group, and answers those who ask. All but `reached` by the reading thread.

    Published through connections of their own: under an alarm the broker reads nothing more of one that publishes, and
    ours has to acknowledge.
    """

    def __init__(self, wire: Wire, address: Address, exchange: str, base: str, partitions: int) -> None:
        self._wire, self._address, self._exchange = wire, address, exchange
        self._queues = {share_name(base, number): queue_name(base, number) for number in range(partitions)}
        self._reply = f"{exchange}.end.{uuid4().hex}"
        self._wanted = False
        self._asked_at: float | None = None
        self._channel = 0
        self._answered: set[str] = set()
        self._ours: dict[str, int] = {}
        self._owed: list[tuple[str, int, bytes]] = []  # (share, place, to whom)

    def reached(self, end: Waiting, recorded: Mapping[str, Share]) -> bool:
        """Return whether all that the queues held is durable. The first call has the question asked: what came until
        then is waited for, too."""
        self._wanted = True
        done = set(self._answered)
        for name, place in dict(self._ours).items():
            if place == 0 or (name in recorded and recorded[name].place >= place):
                done.add(name)
        return end.shares <= done

    def tend(self, durable: Mapping[str, int]) -> None:
        """Ask and answer what is due; `durable`: by share, the place up to which all is.

        Raises:
            Refused, SourceUnavailable: the broker.
        """
        ready = [owed for owed in self._owed if durable.get(owed[0], 0) >= owed[1]]
        if ready:
            self._owed = [owed for owed in self._owed if owed not in ready]
            with short(self._address, "cdcflow answer", SourceUnavailable) as (wire, channel):
                for name, _, whom in ready:
                    post(wire, channel, self._exchange, own_key(whom.decode()), [(PLACE, END), (KEY, name.encode())])
        now = time.monotonic()
        if self._wanted and (self._asked_at is None or now - self._asked_at > _AGAIN_SECONDS):
            if self._asked_at is None:
                self._listen()
            self._asked_at = now
            with short(self._address, "cdcflow question", SourceUnavailable) as (wire, channel):
                for name, queue in self._queues.items():
                    if name not in self._answered:
                        headers = [(PLACE, END), (KEY, self._reply.encode())]
                        post(wire, channel, self._exchange, own_key(queue), headers)

    def met(self, share: str, place: int, whom: bytes) -> None:
        """Note that a question was read in a share of ours, behind what is before `place`."""
        if whom == self._reply.encode():
            self._ours[share] = place
        else:
            self._owed.append((share, place, whom))

    def gave(self, share: str, durable: int) -> None:
        """Forget what was read of a share that is no longer ours: what is not durable comes again to whoever has it."""
        if self._ours.pop(share, durable + 1) <= durable:
            self._answered.add(share)
        self._owed = [owed for owed in self._owed if owed[0] != share]

    def heard(self, event: Event) -> bool:
        """Take in an answer; return whether it was one."""
        if event[0] != self._channel or event[3] is None:
            return False
        pairs, _, _ = headers_of(event[3])
        self._answered.add(dict(pairs).get(KEY, b"").decode("utf-8", "replace"))
        return True

    def _listen(self) -> None:
        wire = self._wire
        channel = wire.channel()
        wire.call(spec.Queue.Declare(0, self._reply, False, False, True, True, False, {}), channel=channel)
        bind(wire, channel, self._reply, self._exchange, own_key(self._reply))
        wire.call(spec.Basic.Consume(0, self._reply, "end", False, True, False, False, {}), channel=channel)
        self._channel = channel
