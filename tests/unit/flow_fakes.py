"""Scripted ports in memory, for the logic of the loop: what they are told to do wrong, they do at a named moment."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from cdcflow.errors import CopyRestart, SourceUnavailable, TargetUnavailable
from cdcflow.flow.inbox import Fill
from cdcflow.flow.parts import Parts, Settings
from cdcflow.model.change import ChangeBatch, Heartbeat, Rows
from cdcflow.model.check import Finding
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.ports import Follow, Router, Turn, unattended
from cdcflow.model.position import Checkpoint, Position
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.rules import Rules, parse
from tests.unit.flow_fake_target import FakeStore, FakeTarget
from tests.unit.flow_world import At, Change, Faults, World, frame_of


class FakeSnapshot:
    """Chunks of at most two rows, by place in the ordered rows."""

    def __init__(self, world: World, faults: Faults, position: int) -> None:
        self.position = At(position)
        self.token = str(position)
        self._world, self._faults = world, faults
        self.closed = False

    def plan(self, route: Route, done: Sequence[DoneChunk], turn: Turn = unattended) -> list[Chunk]:
        self._faults.reach("plan")
        turn()
        number = route.source.id
        if done and not route.key:
            raise CopyRestart("no key")
        rows = len(self._world.rows(number, self.position.value))
        since = min((each.token for each in done), key=int, default="")
        first = max((each.chunk.number for each in done), default=-1) + 1
        # Everything again where something was done: the rows of the fake have no places to tell which changed.
        return [Chunk(number, first + n, str(low), str(low + 2), since) for n, low in enumerate(range(0, rows, 2))]

    def read(self, route: Route, chunk: Chunk, turn: Turn = unattended) -> Iterable[bytes]:
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

    def outlook(self, checkpoint: Checkpoint) -> list[Finding]:
        return []

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
