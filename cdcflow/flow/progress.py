"""What a running pipeline tells whoever watches: progress bars, metrics, the service manager.

Every argument is a plain value, so that an observer needs to import nothing from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Observer(Protocol):
    """Somebody who watches. Called from several threads; must be quick and must not raise.

    Tables are named as at the source, `schema.table`.
    """

    def table_state(self, name: str, state: str, reason: str = "") -> None:
        """A table is now `pending`, `copying`, `catching_up`, `live`, `failed` or `dropped`.

        Called for every table of the pipeline at the start, and at each change.
        """

    def copy_progress(self, name: str, rows: int, nbytes: int, total_bytes_estimate: int) -> None:
        """How much of a table's copy is durable: totals so far, including what an earlier run copied.

        `total_bytes_estimate` is the table's size at the source (0 where unknown): a scale for a progress bar,
        not the bytes that will be sent.
        """

    def applied(
        self,
        rows: Mapping[tuple[str, str], int],
        nbytes: int,
        transactions: int,
        seconds: float,
        lag_seconds: float,
    ) -> None:
        """One batch was applied.

        rows: by table and operation (`insert`, `update`, `delete`, `truncate`).
        seconds: what the apply took. lag_seconds: the age of its last commit when it was visible.
        """

    def position(self, durable: str, lag_bytes: int | None, lag_seconds: float) -> None:
        """How far the target has durably come: about once a second. Lags are 0 when nothing waits."""

    def waiting(self, messages: int) -> None:
        """How many messages wait at a broker in the shares of this instance: about once a second."""

    def retained(self, nbytes: int) -> None:
        """How much log the source keeps for this pipeline: every few seconds."""

    def restarted(self, reason: str) -> None:
        """The pipeline lost a server and goes on from the checkpoint."""

    def state(self, state: str) -> None:
        """The pipeline as a whole is now `starting`, `copying`, `streaming`, `waiting` (a server is away),
        `stopping` or `stopped`. `copying` and `streaming` mean ready."""

    def alive(self) -> None:
        """Real progress was made, or the pipeline is idle and healthy: what a watchdog may be fed with."""


@dataclass(slots=True)
class Fanout:
    """Several observers as one."""

    observers: Sequence[Observer] = field(default_factory=tuple)

    def table_state(self, name: str, state: str, reason: str = "") -> None:
        for observer in self.observers:
            observer.table_state(name, state, reason)

    def copy_progress(self, name: str, rows: int, nbytes: int, total_bytes_estimate: int) -> None:
        for observer in self.observers:
            observer.copy_progress(name, rows, nbytes, total_bytes_estimate)

    def applied(
        self,
        rows: Mapping[tuple[str, str], int],
        nbytes: int,
        transactions: int,
        seconds: float,
        lag_seconds: float,
    ) -> None:
        for observer in self.observers:
            observer.applied(rows, nbytes, transactions, seconds, lag_seconds)

    def position(self, durable: str, lag_bytes: int | None, lag_seconds: float) -> None:
        for observer in self.observers:
            observer.position(durable, lag_bytes, lag_seconds)

    def waiting(self, messages: int) -> None:
        for observer in self.observers:
            observer.waiting(messages)

    def retained(self, nbytes: int) -> None:
        for observer in self.observers:
            observer.retained(nbytes)

    def restarted(self, reason: str) -> None:
        for observer in self.observers:
            observer.restarted(reason)

    def state(self, state: str) -> None:
        for observer in self.observers:
            observer.state(state)

    def alive(self) -> None:
        for observer in self.observers:
            observer.alive()


@dataclass(slots=True)
class Report:
    """What one run did.

    tables: the state of each table at the end, by its source name. failed: the reason and what to do, by name.
    """

    rows_copied: int = 0
    bytes_copied: int = 0
    changes_applied: int = 0
    transactions: int = 0
    batches: int = 0
    seconds: float = 0.0
    restarts: int = 0
    position: str = ""
    stopped: bool = False  # told to end, by a signal or the caller
    tables: dict[str, str] = field(default_factory=dict)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
