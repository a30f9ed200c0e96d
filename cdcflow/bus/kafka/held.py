"""One partition that an instance reads: how far, and what keeps it from going on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from confluent_kafka import TopicPartition

# Brokers that are all away for so long are told of; until then the client finds them again by itself.
AWAY_SECONDS: Final = 20.0


@dataclass(slots=True)
class Held:
    """A partition that is ours. place: the next offset to read. meeting: nothing is read until `resume`. refused_at:
    where it stood at the first of the answers in a row that brought nothing, and since when."""

    name: str
    topic: str
    partition: int
    epoch: int
    place: int
    meeting: bool = False
    refused_at: tuple[int, float] = (-1, 0.0)

    def at(self, offset: int) -> TopicPartition:
        """Return the partition as the client names it."""
        return TopicPartition(self.topic, self.partition, offset)

    def refused(self, now: float) -> bool:
        """Note an answer of the broker's that brought nothing; return whether there was no other for long."""
        if self.refused_at[0] != self.place:
            self.refused_at = self.place, now
        return now - self.refused_at[1] > AWAY_SECONDS
