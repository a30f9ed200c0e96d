"""What is applied, what of it is durable, and how far the source may be told to forget."""

from __future__ import annotations

import threading
from collections.abc import Container
from typing import Protocol

from cdcflow.model.position import Position


class Acknowledges(Protocol):
    """The part of a stream that hears what is durable."""

    def ack(self, upto: Position) -> None: ...


def later(one: Position, other: Position) -> Position:
    """Return the position that stands behind more; `one` where they are equal."""
    return one if one.covers(other) else other


def earlier(one: Position, other: Position) -> Position:
    """Return the position that stands behind less; `one` where they are equal."""
    return one if other.covers(one) else other


class Ledger:
    """Positions on their way from applied over durable to acknowledged. None of the three ever moves back.

    Tables whose copy is not joined to the stream yet hold the acknowledgement back at the position that their
    copy starts from: the log from there on is still needed. The ledger outlives streams; `attach` gives it the
    one that is open now. `settle` is the only place that calls `ack`.
    """

    def __init__(self, applied: Position) -> None:
        self.applied = applied
        # What an earlier session committed may be visible and not flushed yet, so nothing counts as durable
        # before this session heard so.
        self.durable: Position | None = None
        self.acknowledged: Position | None = None
        self._holds: dict[int, Position] = {}
        self._frozen = 0
        self._stream: Acknowledges | None = None
        self._lock = threading.Lock()

    def restart(self, checkpoint: Position) -> None:
        """Begin anew at what the target has on disk: the only time when a position may move back."""
        self.applied = self.durable = checkpoint

    def attach(self, stream: Acknowledges | None) -> None:
        """From now on tell `stream`; None while there is none."""
        with self._lock:
            self._stream = stream

    def apply(self, position: Position, *, durable: bool) -> None:
        """Note that the target holds everything up to `position`."""
        self.applied = later(self.applied, position)
        if durable:
            self._settle_at(position)

    def flushed(self, position: Position | None) -> None:
        """Note what the target said to be durable."""
        if position is not None:
            self._settle_at(earlier(self.applied, position))

    @property
    def waits(self) -> bool:
        """Whether something is applied that the target has not called durable."""
        return self.durable is None or not self.durable.covers(self.applied)

    def freeze(self) -> None:
        """Acknowledge nothing new until `thaw`: for the time in which a copy's start is being found."""
        with self._lock:
            self._frozen += 1

    def thaw(self) -> None:
        with self._lock:
            self._frozen -= 1

    def hold(self, table_id: int, position: Position) -> None:
        """Keep the log from `position` on for the table's sake."""
        with self._lock:
            self._holds[table_id] = position

    def let_go(self, table_id: int) -> None:
        with self._lock:
            self._holds.pop(table_id, None)

    def keep(self, table_ids: Container[int]) -> None:
        """Let go of every table that is not one of these."""
        with self._lock:
            for table_id in [held for held in self._holds if held not in table_ids]:
                del self._holds[table_id]

    def settle(self) -> Position | None:
        """Tell the source what it may forget, if that has moved; return what it was told last."""
        with self._lock:
            if self._stream is None or self._frozen or self.durable is None:
                return self.acknowledged
            safe = self.durable
            for position in self._holds.values():
                safe = earlier(safe, position)
            if self.acknowledged is None or not self.acknowledged.covers(safe):
                self.acknowledged = safe
            self._stream.ack(self.acknowledged)
            return self.acknowledged

    def _settle_at(self, position: Position) -> None:
        self.durable = position if self.durable is None else later(self.durable, position)
