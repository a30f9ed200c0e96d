"""The seams: what a source, a snapshot, a target and a state store promise, and what they may expect.

Connectors implement these without inheriting. Nothing here does I/O or imports a driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from cdcflow.model.change import ChangeBatch, Heartbeat, Receipt
from cdcflow.model.check import Finding
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord
from cdcflow.model.position import Checkpoint, Position
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName

Turn = Callable[[], None]
"""Called now and then by what takes long, between two steps of it, in the caller's thread. What it raises ends it."""


def unattended() -> None:
    """A `Turn` of whoever has nothing to do meanwhile."""


Router = Callable[[Table], Route | None]
"""Applies the rules to one shape of one table; None means the rules leave it out."""


@dataclass(frozen=True, slots=True)
class Follow:
    """How the stream treats one table.

    Transactions that committed before `skip_until` are in the target already and their rows of this table
    are dropped; those before `idempotent_until` may be, and their frames are marked `idempotent`.
    """

    route: Route
    skip_until: Position | None = None
    idempotent_until: Position | None = None


class Stream(Protocol):
    """The log from a position on. Used by one thread, the reader's, except `ack`."""

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        """Return what has arrived: whole transactions, a piece of a large one, or None after `wait` seconds.

        Positions only grow. Every call also tells the source, when it is time, that the reader lives, and the
        last acknowledged position.

        Raises:
            SourceUnavailable: the connection is gone; open a new stream from the last durable position.
            PositionLost: the log no longer holds what follows the start.
            DecodeError: a message cannot be understood.
        """

    def idle(self) -> None:
        """Keep the connection alive without reading: called every second or so while the pipeline is full."""

    def ack(self, upto: Position) -> None:
        """Remember that everything up to `upto` is durable; the source is told with the next status update.

        Any thread. Only `flow.ledger` calls it.
        """

    def close(self) -> None: ...


class Snapshot(Protocol):
    """A consistent view of the source, readable by several threads at once.

    Either one view of everything at `position`, or (where the engine has none that several sessions share) one view
    for each chunk, none of them older than `position`.
    """

    position: Position
    token: str  # what a later copy needs to find rows changed since this view

    def position_of(self, table_id: int) -> Position:
        """Return the position at or before which every change of a table is in its copy: `position`, or for a table
        without a key, which must be copied as of one moment, its own, from the first block that is read of it on."""

    def upto(self, table_id: int) -> Position:
        """Return a position that covers every change which the table's chunks read so far may hold: `position_of`
        for one view. Changes between the two are applied idempotently."""

    def plan(self, route: Route, done: Sequence[DoneChunk], turn: Turn = unattended) -> list[Chunk]:
        """Divide what is left of a table into chunks. `done` are the finished chunks of an earlier,
        interrupted copy of the same table: with the returned ones, they must make the table whole as of
        `position` (rows deleted in between excepted: the stream removes them). Where that takes longer the larger
        the table is, `turn` is called all the time.

        Raises:
            CopyRestart: the finished chunks cannot be used (the table was rewritten, or has no key).
        """

    def read(self, route: Route, chunk: Chunk, turn: Turn = unattended) -> Iterable[bytes]:
        """Yield the chunk's rows as blocks of PostgreSQL COPY text, the route's columns in order. Any thread; each
        call has a connection of its own. Blocks hold whole lines; of a row of many megabytes a block may end inside
        a value, but not inside an escape or between the two hex digits of a byte. `turn` is called while the first
        one is waited for, where other sessions may keep it from us.

        Raises:
            CopyRestart: the table was rewritten, altered or dropped since the view was made. May come behind the
                last block, so a chunk counts only when the blocks are exhausted.
            SourceUnavailable: the view is gone; finished chunks stay, the rest needs a new one.
        """

    def close(self) -> None:
        """Give the view up. Safe to call twice."""


class Source(Protocol):
    """A database whose log is read.

    Methods other than `stream` use short-lived or own connections and may be called from any thread.
    """

    engine: str
    address: str  # the URL without secrets, for messages
    workers: int  # how many chunks of a copy are read at once

    def check(self, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
        """Look at settings, privileges, identities and tables, changing nothing. Never raises for a finding;
        raises AccessDenied or SourceUnavailable when it cannot even look."""

    def tables(self) -> list[Table]:
        """Return every user table that could be replicated, with keys, identities, indexes and user types."""

    def identity(self) -> dict[str, str]:
        """Say who the source is: what must be equal at the next start (system identifier, database)
        and what is worth remembering (timeline, slot)."""

    def refusal(self, table: Table, route: Route) -> Finding | None:
        """Say why this table must not be captured as it is (it would break the application's own UPDATEs),
        with the statement that mends it; None when it may."""

    def prepared(self) -> bool:
        """Whether the durable part of this pipeline (slot and publication) exists at the source."""

    def prepare(self, routes: Sequence[Route], ended: Event | None = None) -> Snapshot:
        """Make the durable part anew (dropping what an unfinished attempt left) and return the view of the
        data at exactly the position where the log begins. Nothing is lost between the two.

        Raises:
            SourceUnavailable: `ended` was set while it waited for transactions to end.
        """

    def include(self, routes: Sequence[Route]) -> None:
        """Make the log carry exactly these tables from now on. Idempotent.

        Raises:
            TableRefused: one of them is new to the log and must not be captured as it is (see `refusal`).
        """

    def snapshot(self, ended: Event | None = None) -> Snapshot:
        """Return a new consistent view with its exact position, independent of the stream. Raises as `prepare`."""

    def resume(self, checkpoint: Checkpoint) -> None:
        """Compare the checkpoint with the source before streaming from it.

        Raises:
            PositionLost: the slot is gone, recreated past the checkpoint, or invalidated.
            SourceChanged: another server, or a history that does not hold the checkpoint.
        """

    def outlook(self, checkpoint: Checkpoint) -> list[Finding]:
        """Say, where `resume` has passed, how much longer the log is kept that follows the checkpoint; nothing where
        the source keeps it for us."""

    def stream(self, start: Position, follow: Mapping[int, Follow], router: Router) -> Stream:
        """Open the log at `start`. Tables not in `follow` are dropped. `router` is asked for the new route
        when a table's shape changes."""

    def watch(self, follow: Mapping[int, Follow], router: Router) -> Stream:
        """Open the log at its end, only to look: under a slot of its own that ends with the stream, so the
        pipeline's position does not move. The tables must be in the log already (see `include`)."""

    def stamps(self, table_ids: Sequence[int]) -> dict[int, str]:
        """Return each existing table's fingerprint, opaque text to be remembered and compared by `rewritten`."""

    def rewritten(self, before: str, now: str) -> bool:
        """Return whether a table's rows were rewritten without row events between two fingerprints (a type
        change with USING, a volatile default); VACUUM FULL, CLUSTER and TRUNCATE are none."""

    def end(self) -> Position:
        """Return the log's end now: everything committed before the call is covered by it."""

    def retained(self) -> int | None:
        """Return the bytes of log that the source keeps for this pipeline, None where unknown."""

    def parse(self, text: str) -> Position: ...

    def teardown(self) -> list[str]:
        """Drop slot and publication; return what was dropped, as text. Safe when they are not there."""

    def close(self) -> None: ...


class Loader(Protocol):
    """One connection that loads chunks of the initial copy. Used by one thread."""

    def load(
        self, route: Route, chunk: Chunk, blocks: Iterable[bytes], done: Callable[[int, int], DoneChunk], *, merge: bool
    ) -> DoneChunk:
        """Write the blocks and the record of the finished chunk in one transaction.

        `done(rows, bytes)` makes the record. With `merge` rows may be there already and are overwritten.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a target can do, so that flow asks "can it" and never "which is it"."""

    transactional: bool  # rows and position commit together
    holds_state: bool
    ddl_in_transaction: bool
    schema_changes: bool


class Target(Protocol):
    """A database or broker that changes are written to.

    `begin`, `apply`, `flush` and `heartbeat` are called by one thread, never at once. `create`, `finish` and
    `loader` may be called from another thread beside them.
    """

    capabilities: Capabilities
    address: str

    def check(self, routes: Sequence[Route]) -> list[Finding]:
        """As `Source.check`."""

    def identity(self) -> dict[str, str]:
        """Return what of `Source.identity` says that a source is this very database; {} where it cannot be told."""

    def holds(self, route: Route) -> bool:
        """Return whether the route's table is there and has rows."""

    def create(self, route: Route) -> None:
        """Make the schema, user types and table where missing, with the key but without other indexes.

        A table that is there is left as it is, and compared.

        Raises:
            ConfigError: the table that is there cannot hold the rows (a column is missing).
        """

    def clear(self, route: Route, before: Route) -> None:
        """Empty the table before a copy that starts over. Its finished chunks were forgotten (`Store.forget_chunks`).

        `before` is the route of the rows that are in it. A table that `create` made gets the shape of `route`:
        what was renamed since is renamed, what is gone or excluded goes.
        """

    def finish(self, routes: Sequence[Route]) -> None:
        """Make the indexes and then the foreign keys that the source has and the target lacks, and set
        sequences. Idempotent; called when the tables are live. Only on tables that `create` made."""

    def adapt(self, routes: Sequence[Route]) -> bool:
        """Give the target's types the values that the source's have by now, and that no schema change in the log
        tells of (labels added to enums). Return whether anything was missing.

        Called when a row was refused: with True the row is read and applied again.
        """

    def loader(self) -> Loader: ...

    def begin(self, pipeline: str, epoch: int) -> None:
        """Open the apply session for the holder of the lease."""

    def apply(self, batch: ChangeBatch) -> Receipt:
        """Write one batch in order and its position with it, in one transaction.

        A batch with `complete=False` is written and not committed; what follows belongs to the same
        transaction. May be called again with the same batches after a failure: the second time has the same
        result.

        A target whose `capabilities` are not transactional writes no position: the caller saves the checkpoint when
        the receipt is durable, and may bring the same changes again after a crash in between.

        Raises:
            TargetUnavailable: retried with backoff after `recorded` was read again.
            Fenced: the epoch is no longer ours; nothing was written.
            RowRejected: the target refuses one row for ever (names table and key, not values).
        """

    def heartbeat(self, position: Position) -> Receipt:
        """Move the recorded position without rows."""

    def flush(self, *, force: bool) -> Position | None:
        """Return the last position that is durable by now. With `force` make everything applied durable."""

    def close(self) -> None: ...


class Store(Protocol):
    """What a pipeline remembers between runs: lease, checkpoint, table states, finished chunks."""

    def migrate(self) -> None:
        """Make or upgrade the state's own tables. Idempotent; safe when two do it at once."""

    def acquire(self, pipeline: str, owner: Mapping[str, str]) -> int:
        """Take the lease and return its epoch, which is larger than every earlier one.

        Raises:
            Fenced: another instance holds it (says who and since when).
        """

    def held(self) -> bool:
        """Whether the lease is still ours. Cheap; called every few seconds."""

    def checkpoint(self, pipeline: str) -> Checkpoint | None: ...

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint outside `Target.apply` (at the start of a copy). Raises Fenced."""

    def tables(self, pipeline: str) -> dict[int, TableRecord]: ...

    def put(self, pipeline: str, epoch: int, records: Sequence[TableRecord]) -> None:
        """Insert or replace table records. Raises Fenced."""

    def ask(self, pipeline: str, table_ids: Sequence[int]) -> None:
        """Leave the wish, without the lease, that tables be copied again: the instance that holds it looks every
        few seconds. It stays until `put` makes the table pending."""

    def asked(self, pipeline: str) -> list[int]:
        """Return the tables that somebody wished to be copied again."""

    def drop(self, pipeline: str, epoch: int, table_ids: Sequence[int]) -> None:
        """Forget tables and their chunks. Raises Fenced."""

    def chunks(self, pipeline: str, table_id: int) -> list[DoneChunk]: ...

    def record(self, pipeline: str, epoch: int, done: DoneChunk) -> None:
        """Write a finished chunk, where the target is not transactional; else its loader does it with the rows.
        Idempotent. Raises Fenced."""

    def forget_chunks(self, pipeline: str, epoch: int, table_id: int) -> None:
        """Forget a table's finished chunks. Raises Fenced."""

    def remember(self, pipeline: str, epoch: int, table_id: int, position: str, shape: str) -> None:
        """Write a shape that a table has from `position` on, ahead of the batch that holds the change. Idempotent.

        Raises Fenced."""

    def history(self, pipeline: str) -> dict[int, list[tuple[str, str]]]:
        """Return each table's remembered shapes, oldest first, with the position from which on each holds."""

    def forget(self, pipeline: str) -> None:
        """Remove all that is remembered of the pipeline (teardown)."""

    def release(self) -> None:
        """Give the lease back. Safe to call twice."""

    def close(self) -> None: ...


__all__ = [
    "Capabilities",
    "Follow",
    "Loader",
    "Router",
    "Snapshot",
    "Source",
    "Store",
    "Stream",
    "TableName",
    "Target",
]
