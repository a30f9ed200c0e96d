"""What a source hands over: runs of whole transactions, and the moments when only the position moves."""

from __future__ import annotations

from dataclasses import dataclass

from cdcflow.model.frame import RowBatch, concatenate
from cdcflow.model.position import Position
from cdcflow.model.route import Route


@dataclass(slots=True)
class Rows:
    """Row changes of any number of tables between two barriers.

    frames: by frame number. A number stands for one table in one shape as long as the stream lives.
    order: native uint32 a row: the frame that the next row in source order is in. Rows of one frame are in
        source order already, so this gives the total order back.
    """

    frames: dict[int, RowBatch]
    order: bytes

    def __len__(self) -> int:
        return len(self.order) // 4


@dataclass(frozen=True, slots=True)
class Truncate:
    """TRUNCATE of several tables at one moment. A barrier."""

    routes: tuple[Route, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The rows after this have another shape. A barrier."""

    old: Route
    new: Route


@dataclass(frozen=True, slots=True)
class Recopy:
    """The table's rows are others from here on, and no row event said so (another table took its name, a conversion
    that only the source's server can do). The stream has no more rows of it; targets leave it alone. A barrier."""

    route: Route
    why: str


@dataclass(frozen=True, slots=True)
class Message:
    """A logical message that an application wrote into the log."""

    prefix: str
    content: bytes
    transactional: bool


@dataclass(frozen=True, slots=True)
class Meeting:
    """Shares of a source wait here for one another, then `then` happens once (see `ports.SharedStream`). A barrier,
    alone in its batch; targets never see it. Without `then` it only keeps what is behind it from overtaking.

    name: what the publisher called it. share, place: where this mark stands, and the place behind it. shares: all
    that have the mark.
    """

    name: str
    share: str
    place: int
    shares: frozenset[str]
    then: Truncate | None


Step = Rows | Truncate | SchemaChange | Recopy | Message | Meeting


@dataclass(slots=True)
class ChangeBatch:
    """A run of source transactions, in commit order.

    end: the commit boundary behind the last whole transaction in it. With `complete=False` the batch is one
        piece of one large transaction whose commit has not been seen yet; `end` then says nothing.
    marks: four native int64 for each transaction that ends in this batch: rows in it (the transaction's, in
        this batch), its end position as a number, commit time in microseconds since 1970 (source clock),
        transaction number.
    commit_time: seconds since 1970 (source clock) of the last commit, 0 where there is none.
    lagging: the source sees that more is waiting, so a larger batch is better than an early one.
    """

    steps: list[Step]
    end: Position
    transactions: int
    marks: bytes = b""
    first_commit_time: float = 0.0
    commit_time: float = 0.0
    complete: bool = True
    lagging: bool = False
    rows: int = 0
    nbytes: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing for us up to `end`, at the source's time `sent` (seconds since 1970).

    It only extends the open batch: acknowledging it directly would acknowledge what is still in flight.
    """

    end: Position
    sent: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a target says after a batch. `durable=False`: visible, and a later `flush` makes it durable."""

    position: Position | None
    durable: bool


def merge(batches: list[ChangeBatch]) -> ChangeBatch:
    """Join consecutive complete batches into one; row steps that touch become one step.

    Raises:
        ValueError: one before the last is not complete.
    """
    if len(batches) == 1:
        return batches[0]
    if not all(batch.complete for batch in batches[:-1]):
        raise ValueError("a piece of a transaction can only be merged as the last")
    steps: list[Step] = []
    run: list[Rows] = []
    for batch in batches:
        for step in batch.steps:
            if isinstance(step, Rows):
                run.append(step)
                continue
            if run:
                steps.append(_join(run))
                run = []
            steps.append(step)
    if run:
        steps.append(_join(run))
    last = batches[-1]
    stamped = [batch for batch in batches if batch.commit_time]
    return ChangeBatch(
        steps,
        last.end,
        sum(batch.transactions for batch in batches),
        b"".join(batch.marks for batch in batches),
        stamped[0].first_commit_time if stamped else 0.0,
        stamped[-1].commit_time if stamped else 0.0,
        last.complete,
        last.lagging,
        sum(batch.rows for batch in batches),
        sum(batch.nbytes for batch in batches),
    )


def _join(run: list[Rows]) -> Rows:
    if len(run) == 1:
        return run[0]
    parts: dict[int, list[RowBatch]] = {}
    for rows in run:
        for number, frame in rows.frames.items():
            parts.setdefault(number, []).append(frame)
    return Rows(
        {number: concatenate(frames) for number, frames in parts.items()},
        b"".join(rows.order for rows in run),
    )
