"""Where in a source's log everything before is done: the only thing that a checkpoint holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@runtime_checkable
class Position(Protocol):
    """A commit boundary in a source's log.

    `str(position)` is its durable text; the source's `parse` reads it back. Positions of one source are
    compared by `covers` only: GTID sets are partly ordered and binlog file suffixes are numbers, so there is
    no `<`.
    """

    def covers(self, other: Position) -> bool:
        """Return whether every transaction that `other` stands behind, this one stands behind too."""

    def distance(self, other: Position) -> int | None:
        """Return the bytes of log between `other` (behind) and this one (ahead), or None where unknown."""

    def at(self, number: int) -> Position:
        """Return the position that a batch's marks write as `number`, in the log that this one is in."""

    def __str__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a pipeline remembers of its source: written with the rows in one target transaction.

    `source` says who the source is (system identifier, timeline, slot: see the source's `identity`), as a flat
    map of text. `epoch` is the lease's: a writer with an older one is refused.
    """

    pipeline: str
    position: str
    source: dict[str, str]
    epoch: int


@dataclass(frozen=True, slots=True)
class Share:
    """How far one share of a source (a partition of a topic, a queue) is, and under which claim.

    `place` is a number that only grows within the share: the first message that was not applied. `identity`: what the
    broker calls that which has the share's name (a topic's id), so that another one under the same name is noticed; ''
    where it tells none, or was not asked yet. It is no part of the position.
    """

    epoch: int
    place: int
    identity: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Shares:
    """A position in a source that several instances read at once: what this one holds of it.

    Recorded share by share, each guarded by the epoch of its claim (`ports.SharedStore`). The text is JSON, sorted
    by name: `{"shop.public.orders/3":[2,1207]}`, a share's epoch and place.
    """

    shares: Mapping[str, Share]

    def covers(self, other: Position) -> bool:
        """Return whether every share of `other` is here and at least as far."""
        if not isinstance(other, Shares):
            return False
        return all(name in self.shares and self.shares[name].place >= at.place for name, at in other.shares.items())

    def distance(self, other: Position) -> int | None:
        """Return the messages between `other` and this one, over the shares that both have; bytes are not known."""
        if not isinstance(other, Shares):
            return None
        both = self.shares.keys() & other.shares.keys()
        return sum(max(0, self.shares[name].place - other.shares[name].place) for name in both)

    def at(self, number: int) -> Position:
        """A bus's batches have no marks."""
        return self

    def brief(self) -> str:
        """Return how far it is, for a person."""
        count, messages = len(self.shares), sum(at.place for at in self.shares.values())
        return f"{messages:,} messages in {count} share{'' if count == 1 else 's'}"

    def __str__(self) -> str:
        held = {name: [at.epoch, at.place] for name, at in sorted(self.shares.items())}
        return json.dumps(held, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Shares:
        """Read back what `str` wrote.

        Raises:
            ValueError: it is not such a text.
        """
        try:
            return cls({name: Share(int(epoch), int(place)) for name, (epoch, place) in json.loads(text).items()})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"not the shares of a source: {error}") from error
