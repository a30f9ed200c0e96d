"""One partition that an instance reads: how far, and what keeps it from going on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from confluent_kafka import TopicPartition

# Brokers that are all away for so long are told of; until then the client finds them again by itself.
AWAY_SECONDS: Final = 20.0
# The client asks again after half a second: two refusals with more than this between them are not in a row.
_REFUSED_AGAIN_SECONDS: Final = 5.0


@dataclass(slots=True)
class Held:
    """A partition that is ours. place: the next offset to read. meeting: nothing is read until `resume`. refusals:
    where it stood, and when, at the first and the last of the answers in a row that brought nothing."""

    name: str
    topic: str
    partition: int
    epoch: int
    place: int
    meeting: bool = False
    refusals: tuple[int, float, float] = (-1, 0.0, 0.0)

    def at(self, offset: int) -> TopicPartition:
        """Return the partition as the client names it."""
        return TopicPartition(self.topic, self.partition, offset)

    def refused(self, now: float) -> bool:
        """Note an answer of the broker's that brought nothing; return whether there was no other for long."""
        place, first, last = self.refusals
        if place != self.place or now - last > _REFUSED_AGAIN_SECONDS:
            first = now
        self.refusals = self.place, first, now
        return now - first > AWAY_SECONDS
