"""Scripted ports in memory, for the logic of the loop: what they are told to do wrong, they do at a named moment."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cdcflow.errors import CopyRestart, Fenced, SourceUnavailable, TargetUnavailable
from cdcflow.flow.inbox import Fill
from cdcflow.flow.parts import Parts, Settings
from cdcflow.model.change import ChangeBatch, Heartbeat, Receipt, Rows
from cdcflow.model.check import Finding
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord, TableState
from cdcflow.model.frame import DELETE, INSERT, UPDATE, RowBatch, image
from cdcflow.model.ports import Capabilities, Follow, Router
from cdcflow.model.position import Checkpoint, Position
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName
from cdcflow.rules import Rules, parse

OPS = {"insert": INSERT, "update": UPDATE, "delete": DELETE}


@dataclass(frozen=True, slots=True)
class At:
    """A position that is a number; transaction n commits at n, so position n stands behind 1..n-1."""

    value: int

    def covers(self, other: Position) -> bool:
        return isinstance(other, At) and self.value >= other.value

    def distance(self, other: Position) -> int | None:
        return self.value - other.value if isinstance(other, At) else None

    def at(self, number: int) -> At:
        return At(number)

    def __str__(self) -> str:
        return str(self.value)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the code under test handles it."""


@dataclass(slots=True)
class Fault:
    """At the `nth` time that `moment` is reached, raise."""

    moment: str
    error: Callable[[], BaseException]
    nth: int = 1


@dataclass(slots=True)
class Faults:
    """Moments are named `before commit`, `after commit`, `after slot`, ...: whatever the fakes pass through."""

    planned: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    holds: dict[str, threading.Event] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, moment: str) -> None:
        with self.lock:
            self.seen.append(moment)
            due = [fault for fault in self.planned if fault.moment == moment]
            for fault in due:
                fault.nth -= 1
            struck = next((fault for fault in due if fault.nth == 0), None)
        if moment in self.holds:
            self.holds[moment].wait(10)
        if struck is not None:
            raise struck.error()


def table(name: str, number: int, *, key: bool = True) -> Table:
    column = Column("id", NativeType("integer", 23), Logical.INT4, nullable=False, number=1)
    value = Column("v", NativeType("text", 25), Logical.TEXT, number=2)
    keys = ("id",) if key else ()
    return Table(TableName("public", name), number, (column, value), keys, keys)


Change = tuple[int, str, int, str]
"""Table number, operation, id, value."""


class World:
    """The source's truth: tables with rows, and a log of transactions."""

    def __init__(self) -> None:
        self.tables: dict[int, Table] = {}
        self.log: list[list[Change]] = [[]]  # transaction n is log[n]
        self.slot: int | None = None
        self.published: set[int] = set()
        self.confirmed = 0
        self.stamps: dict[int, str] = {}
        self.lock = threading.RLock()

    def make(self, name: str, number: int, *, key: bool = True) -> None:
        self.tables[number] = table(name, number, key=key)
        self.stamps[number] = "1"

    def commit(self, *changes: Change) -> None:
        with self.lock:
            self.log.append(list(changes))

    @property
    def end(self) -> int:
        return len(self.log)

    def rows(self, number: int, upto: int | None = None) -> list[tuple[int, str]]:
        """Return a table's rows behind position `upto`, each as often as it is there."""
        found: list[tuple[int, str]] = []
        with self.lock:
            for transaction in self.log[: self.end if upto is None else upto]:
                for change in transaction:
                    if change[0] == number:
                        apply(found, change, strict=True)
        return sorted(found)


def apply(rows: list[tuple[int, str]], change: Change, *, strict: bool) -> None:
    """Apply a change; strictly, a row that is there already or missing is a defect."""
    _, op, key, value = change
    there = [row for row in rows if row[0] == key]
    if op == "insert":
        if there and strict and key >= 0:
            raise AssertionError(f"row {key} is there already")
        if there and not strict:
            rows.remove(there[0])
        rows.append((key, value))
    elif op == "update":
        if there:
            rows.remove(there[0])
        elif strict:
            raise AssertionError(f"row {key} to update is missing")
        rows.append((key, value))
    elif there:
        rows.remove(there[0])
    elif strict:
        raise AssertionError(f"row {key} to delete is missing")


class FakeSnapshot:
    """Chunks of at most two rows, by place in the ordered rows."""

    def __init__(self, world: World, faults: Faults, position: int) -> None:
        self.position = At(position)
        self.token = str(position)
        self._world, self._faults = world, faults
        self.closed = False

    def plan(self, route: Route, done: Sequence[DoneChunk]) -> list[Chunk]:
        number = route.source.id
        if done and not route.key:
            raise CopyRestart("no key")
        rows = len(self._world.rows(number, self.position.value))
        since = min((each.token for each in done), key=int, default="")
        first = max((each.chunk.number for each in done), default=-1) + 1
        # Everything again where something was done: the rows of the fake have no places to tell which changed.
        return [Chunk(number, first + n, str(low), str(low + 2), since) for n, low in enumerate(range(0, rows, 2))]

    def read(self, route: Route, chunk: Chunk) -> Iterable[bytes]:
        self._faults.reach("read chunk")
        rows = self._world.rows(route.source.id, self.position.value)
        for key, value in rows[int(chunk.low) : int(chunk.high)]:
            yield f"{key}\t{value}\n".encode()

    def position_of(self, table_id: int) -> At:
        return self.position

    def upto(self, table_id: int) -> At:
        return self.position

    def close(self) -> None:
        self.closed = True


class FakeSource:
    """Implements `Source` over a `World`."""

    engine = "fake"
    address = "fake://source"
    workers = 2

    def __init__(self, world: World, faults: Faults) -> None:
        self.world, self.faults = world, faults
        self.refused: set[int] = set()
        self.streams: list[FakeStream] = []

    def check(self, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
        return []

    def tables(self) -> list[Table]:
        self.faults.reach("tables")
        return list(self.world.tables.values())

    def identity(self) -> dict[str, str]:
        return {"system": "1"}

    def refusal(self, table: Table, route: Route) -> Finding | None:
        if table.id not in self.refused:
            return None
        from cdcflow.model.check import Level

        return Finding(Level.BLOCKER, "table.identity", str(table.name), "no key", "mend it")

    def prepared(self) -> bool:
        return self.world.slot is not None

    def prepare(self, routes: Sequence[Route], ended: threading.Event | None = None) -> FakeSnapshot:
        with self.world.lock:
            self.world.published = {route.source.id for route in routes}
            self.world.slot = self.world.confirmed = self.world.end
            position = self.world.end
        self.faults.reach("after slot")
        return FakeSnapshot(self.world, self.faults, position)

    def include(self, routes: Sequence[Route]) -> None:
        self.world.published = {route.source.id for route in routes}

    def snapshot(self, ended: threading.Event | None = None) -> FakeSnapshot:
        self.faults.reach("snapshot")
        return FakeSnapshot(self.world, self.faults, self.world.end)

    def resume(self, checkpoint: Checkpoint) -> None:
        from cdcflow.errors import PositionLost

        self.faults.reach("resume")
        if self.world.slot is None or self.world.confirmed > int(checkpoint.position):
            raise PositionLost("the slot is gone or past the checkpoint")

    def stream(self, start: Position, follow: Mapping[int, Follow], router: Router) -> FakeStream:
        assert isinstance(start, At)
        self.faults.reach("open stream")
        assert start.value >= self.world.confirmed, "the log before the confirmed position is gone"
        self.streams.append(FakeStream(self.world, self.faults, start.value, dict(follow)))
        return self.streams[-1]

    def stamps(self, table_ids: Sequence[int]) -> dict[int, str]:
        return {number: self.world.stamps[number] for number in table_ids if number in self.world.stamps}

    def rewritten(self, before: str, now: str) -> bool:
        return before != now

    def end(self) -> Position:
        return At(self.world.end)

    def retained(self) -> int | None:
        return self.world.end - self.world.confirmed

    def parse(self, text: str) -> Position:
        return At(int(text))

    def teardown(self) -> list[str]:
        self.world.slot = None
        return ["slot"]

    def close(self) -> None: ...


class FakeStream:
    """One transaction each `read`; a transaction of more than three changes comes in pieces of two."""

    def __init__(self, world: World, faults: Faults, start: int, follow: dict[int, Follow]) -> None:
        self._world, self._faults, self._at, self._follow = world, faults, start, follow
        self._ready: deque[ChangeBatch | Heartbeat] = deque()
        self._beaten = -1
        self.acks: list[int] = []
        self.closed = False

    def read(self, wait: float) -> ChangeBatch | Heartbeat | None:
        assert not self.closed
        self._faults.reach("read")
        if self._ready:
            return self._ready.popleft()
        with self._world.lock:
            if self._at < self._world.end:
                self._decode(self._at, self._world.log[self._at])
                self._at += 1
        if self._ready:
            return self._ready.popleft()
        if self._beaten < self._at:
            self._beaten = self._at
            return Heartbeat(At(self._at), 0.0)
        threading.Event().wait(min(wait, 0.01))
        return None

    def idle(self) -> None:
        self._faults.reach("idle")

    def ack(self, upto: Position) -> None:
        assert isinstance(upto, At)
        assert not self.acks or upto.value >= self.acks[-1]
        self.acks.append(upto.value)
        self._world.confirmed = max(self._world.confirmed, upto.value)
        self._faults.reach("ack")

    def close(self) -> None:
        self.closed = True

    def _decode(self, position: int, changes: list[Change]) -> None:
        wanted = [change for change in changes if self._takes(change[0], position)]
        end = At(position + 1)
        if not wanted:
            return
        pieces = [wanted[n : n + 2] for n in range(0, len(wanted), 2)] if len(wanted) > 3 else [wanted]
        for number, piece in enumerate(pieces):
            self._ready.append(self._batch(piece, position, end, complete=number == len(pieces) - 1))

    def _takes(self, number: int, position: int) -> bool:
        follow = self._follow.get(number)
        if follow is None or number not in self._world.published:
            return False
        return follow.skip_until is None or position >= int(str(follow.skip_until))

    def _batch(self, changes: list[Change], position: int, end: At, *, complete: bool) -> ChangeBatch:
        steps: list[Rows] = []
        for change in changes:
            follow = self._follow[change[0]]
            idempotent = follow.idempotent_until is not None and position < int(str(follow.idempotent_until))
            frame = frame_of(follow.route, [change], idempotent=idempotent)
            steps.append(Rows({change[0]: frame}, change[0].to_bytes(4, "little")))
        return ChangeBatch(
            list(steps),
            end if complete else At(position),
            int(complete),
            b"",
            1.0,
            1.0,
            complete,
            False,
            len(changes),
            8,
        )


def frame_of(route: Route, changes: Sequence[Change], *, idempotent: bool = False) -> RowBatch:
    images = [image((str(change[2]).encode(), change[3].encode())) for change in changes]
    sizes = b"".join(len(each).to_bytes(4, "little") for each in images)
    ops = bytes(OPS[change[1]] for change in changes)
    return RowBatch(route, ("id", "v"), ops, b"".join(images), sizes, b"", bytes(4 * len(images)), idempotent)


class FakeTarget:
    """Rows by table, and the state's own tables: both survive a kill, an open transaction does not."""

    capabilities = Capabilities(True, True, True, True)
    address = "fake://target"

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.rows: dict[int, list[tuple[int, str]]] = {}
        self.checkpoint: Checkpoint | None = None
        self.records: dict[int, TableRecord] = {}
        self.asked: set[int] = set()
        self.chunks: dict[int, list[DoneChunk]] = {}
        self.finished: list[str] = []
        self.lock = threading.RLock()
        self._open: list[ChangeBatch] = []
        self._epoch = 0
        self._flushed: Position | None = None
        self.recorded: list[int] = []

    def check(self, routes: Sequence[Route]) -> list[Finding]:
        return []

    def identity(self) -> dict[str, str]:
        return {}

    def holds(self, route: Route) -> bool:
        return bool(self.rows.get(route.source.id))

    def create(self, route: Route) -> None:
        self.faults.reach("create")
        self.rows.setdefault(route.source.id, [])

    def clear(self, route: Route, before: Route) -> None:
        with self.lock:
            self.rows[route.source.id] = []
            self.chunks.pop(route.source.id, None)

    def adapt(self, routes: Sequence[Route]) -> bool:
        return False

    def finish(self, routes: Sequence[Route]) -> None:
        self.finished += [route.source.name.table for route in routes]

    def loader(self) -> FakeLoader:
        return FakeLoader(self, self._epoch)

    def begin(self, pipeline: str, epoch: int) -> None:
        self._open.clear()
        self._epoch = epoch
        self._flushed = None

    def apply(self, batch: ChangeBatch) -> Receipt:
        self._open.append(batch)
        if not batch.complete:
            self.faults.reach("piece")
            return Receipt(None, False)
        self.faults.reach("before commit")
        with self.lock:
            self._fence()
            for piece in self._open:
                for step in piece.steps:
                    if isinstance(step, Rows):
                        self._write(step)
            self._record(batch.end)
        self._open.clear()
        self.faults.reach("after commit")
        return Receipt(batch.end, False)

    def heartbeat(self, position: Position) -> Receipt:
        assert not self._open
        with self.lock:
            self._fence()
            self._record(position)
        return Receipt(position, False)

    def flush(self, *, force: bool) -> Position | None:
        if self.checkpoint is not None and self.recorded:
            self._flushed = At(self.recorded[-1])
        return self._flushed

    def close(self) -> None:
        self._open.clear()

    def _fence(self) -> None:
        if self.checkpoint is None or self.checkpoint.epoch != self._epoch:
            raise Fenced("the epoch is not ours")

    def _record(self, position: Position) -> None:
        assert self.checkpoint is not None
        assert isinstance(position, At)
        assert position.value >= int(self.checkpoint.position), "the checkpoint moves back"
        self.recorded.append(position.value)
        self.checkpoint = replace(self.checkpoint, position=str(position))

    def _write(self, step: Rows) -> None:
        for number, frame in step.frames.items():
            for op, _, after in frame.rows():
                assert after is not None
                key, value = after
                assert isinstance(key, bytes)
                assert isinstance(value, bytes)
                word = next(word for word, code in OPS.items() if code == op)
                apply(self.rows[number], (number, word, int(key), value.decode()), strict=not frame.idempotent)


class FakeLoader:
    def __init__(self, target: FakeTarget, epoch: int) -> None:
        self._target, self._epoch = target, epoch

    def load(
        self,
        route: Route,
        chunk: Chunk,
        blocks: Iterable[bytes],
        done: Callable[[int, int], DoneChunk],
        *,
        merge: bool,
    ) -> DoneChunk:
        loaded = b"".join(blocks)
        self._target.faults.reach("load chunk")
        with self._target.lock:
            lines = loaded.decode().splitlines()
            for line in lines:
                key, value = line.split("\t")
                rows = self._target.rows[route.source.id]
                apply(rows, (route.source.id, "insert", int(key), value), strict=not merge)
            record = done(len(lines), len(loaded))
            self._target.chunks.setdefault(route.source.id, []).append(record)
        self._target.faults.reach("after chunk")
        return record

    def close(self) -> None: ...


class FakeStore:
    """Over what a `FakeTarget` keeps."""

    def __init__(self, target: FakeTarget, faults: Faults) -> None:
        self._target, self._faults = target, faults
        self.lease = True
        self.shapes: dict[int, list[tuple[str, str]]] = {}

    def migrate(self) -> None:
        self._faults.reach("migrate")

    def acquire(self, pipeline: str, owner: Mapping[str, str]) -> int:
        kept = self._target.checkpoint
        epoch = 1 if kept is None else kept.epoch + 1
        self._target.checkpoint = Checkpoint(pipeline, "", {}, epoch) if kept is None else replace(kept, epoch=epoch)
        return epoch

    def held(self) -> bool:
        return self.lease

    def checkpoint(self, pipeline: str) -> Checkpoint | None:
        return self._target.checkpoint

    def save(self, checkpoint: Checkpoint) -> None:
        self._target.checkpoint = checkpoint
        self._faults.reach("after save")

    def tables(self, pipeline: str) -> dict[int, TableRecord]:
        return dict(self._target.records)

    def put(self, pipeline: str, epoch: int, records: Sequence[TableRecord]) -> None:
        assert self._target.checkpoint is not None
        if epoch != self._target.checkpoint.epoch:
            raise Fenced("the epoch is not ours")
        for record in records:
            self._target.records[record.table_id] = record
            if record.state is TableState.PENDING:
                self._target.asked.discard(record.table_id)
            self._faults.reach(f"put {record.state.value}")

    def ask(self, pipeline: str, table_ids: Sequence[int]) -> None:
        self._target.asked.update(table_ids)

    def asked(self, pipeline: str) -> list[int]:
        return sorted(self._target.asked)

    def drop(self, pipeline: str, epoch: int, table_ids: Sequence[int]) -> None:
        for number in table_ids:
            self._target.records.pop(number, None)
            self._target.chunks.pop(number, None)

    def chunks(self, pipeline: str, table_id: int) -> list[DoneChunk]:
        return list(self._target.chunks.get(table_id, []))

    def forget_chunks(self, pipeline: str, epoch: int, table_id: int) -> None:
        self._target.chunks.pop(table_id, None)

    def remember(self, pipeline: str, epoch: int, table_id: int, position: str, shape: str) -> None:
        self._faults.reach("remember")
        self.shapes.setdefault(table_id, []).append((position, shape))

    def history(self, pipeline: str) -> dict[int, list[tuple[str, str]]]:
        return {table_id: list(shapes) for table_id, shapes in self.shapes.items()}

    def forget(self, pipeline: str) -> None: ...

    def release(self) -> None: ...

    def close(self) -> None: ...


ALL: Rules = parse("version: 1\ntables:\n  - match: 'public.*'\n")


class Stage:
    """A world, and a target that outlives every run; `parts()` are those of one process."""

    def __init__(self) -> None:
        self.world = World()
        self.faults = Faults()
        self.target = FakeTarget(self.faults)
        self.source = FakeSource(self.world, self.faults)
        self.rules = ALL

    def parts(self, *, fill: Fill | None = None) -> Parts:
        settings = Settings("shop", fill or Fill(), workers=2, look_every=0.02, outage=5.0)
        store = FakeStore(self.target, self.faults)
        return Parts(settings, self.source, self.target, store, self.rules)

    def same(self) -> bool:
        return all(sorted(self.target.rows.get(n, [])) == self.world.rows(n) for n in self.world.tables)


def source_away() -> SourceUnavailable:
    return SourceUnavailable("the source is away")


def target_away() -> TargetUnavailable:
    return TargetUnavailable("the target is away")
