"""Where in a source's log everything before is done: the only thing that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
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
