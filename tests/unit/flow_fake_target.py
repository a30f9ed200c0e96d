"""A target and its state in memory: what is committed outlives a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from cdcflow.errors import Fenced
from cdcflow.model.change import ChangeBatch, Receipt, Rows
from cdcflow.model.check import Finding
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord, TableState
from cdcflow.model.ports import Capabilities
from cdcflow.model.position import Checkpoint, Position
from cdcflow.model.route import Route
from tests.unit.flow_world import OPS, At, Faults, apply


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
            self.rows[route.source.id] = []  # as a target that holds no state: the record of chunks is the flow's

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
