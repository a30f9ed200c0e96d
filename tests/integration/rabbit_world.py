"""A publisher and a reader of one exchange, step by step: batches go in by hand, rows come out into a dictionary."""

from __future__ import annotations

import itertools
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cdcflow.bus.rabbitmq import notes
from cdcflow.bus.rabbitmq import source as sources
from cdcflow.bus.rabbitmq import target as targets
from cdcflow.errors import CdcflowError
from cdcflow.model.change import ChangeBatch, Heartbeat, Meeting, Rows, Step, Truncate
from cdcflow.model.context import Context
from cdcflow.model.frame import RowBatch, image
from cdcflow.model.position import Share, Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName
from cdcflow.sources.postgres.position import Lsn
from tests.servers.rabbitmq_server import RabbitMq

COLUMNS = (
    Column("id", NativeType("bigint"), Logical.INT8, False),
    Column("v", NativeType("text"), Logical.TEXT),
)
COMMITTED_US = 1_700_000_000_250_000
_numbers = itertools.count(1)


def table(name: str) -> Table:
    return Table(TableName("public", name), len(name), COLUMNS, ("id",), ("id",))


def route(of: Table) -> Route:
    return Route(of, of.name, tuple((column, column.name) for column in of.columns), of.key)


ROUTE = route(table("t"))


def rows(op: str, pairs: Sequence[tuple[int, str]], of: Route = ROUTE) -> Rows:
    images = [image([str(key).encode(), value.encode()]) for key, value in pairs]
    sizes = array("i", map(len, images)).tobytes()
    nothing = bytes(4 * len(pairs))
    after, before = (b"".join(images), b"") if op != "D" else (b"", b"".join(images))
    after_sizes, before_sizes = (sizes, nothing) if op != "D" else (nothing, sizes)
    frame = RowBatch(of, ("id", "v"), op.encode() * len(pairs), after, after_sizes, before, before_sizes)
    return Rows({1: frame}, array("I", [1] * len(pairs)).tobytes())


def pairs(start: int, count: int, value: str = "v") -> list[tuple[int, str]]:
    return [(key, f"{value}{key}") for key in range(start, start + count)]


def piece(*steps: Step) -> ChangeBatch:
    """A transaction whose end is not known yet."""
    count = sum(len(step) for step in steps if isinstance(step, Rows))
    return ChangeBatch(list(steps), Lsn(0), 1, b"", rows=count, complete=False)


def batch(lsn: int, *steps: Step) -> ChangeBatch:
    """One transaction."""
    count = sum(len(step) for step in steps if isinstance(step, Rows))
    marks = array("q", [count, lsn, COMMITTED_US, 700 + lsn]).tobytes()
    return ChangeBatch(list(steps), Lsn(lsn), 1, marks, rows=count)


def truncate() -> Truncate:
    return Truncate((ROUTE,), cascade=False, restart_identity=False)


class Claims:
    """What a target has on record, and who is asked to give."""

    def __init__(self) -> None:
        self.shares: dict[str, Share] = {}
        self.given: list[str] = []
        self.gone: list[str] = []

    def take(self, names: Sequence[str]) -> dict[str, Share]:
        for name in names:
            before = self.shares.get(name, Share(0, 0))
            self.shares[name] = replace(before, epoch=before.epoch + 1)
        return {name: self.shares[name] for name in names}

    def record(self, shares: Mapping[str, Share]) -> None:
        for name, at in shares.items():
            self.shares[name] = replace(at, identity=self.shares[name].identity)

    def recorded(self) -> dict[str, Share]:
        return dict(self.shares)

    def begin(self, places: Mapping[str, int]) -> None:
        for name, place in places.items():
            self.shares.setdefault(name, Share(0, place))

    def identify(self, shares: Mapping[str, Share]) -> None:
        for name, at in shares.items():
            before = self.shares[name]
            place = before.place if before.identity in ("", at.identity) else 0
            self.shares[name] = Share(before.epoch, place, at.identity)

    def give(self, names: Sequence[str]) -> None:
        self.given += names

    def lost(self, names: Sequence[str]) -> None:
        self.gone += names


class Exchange:
    """One exchange at a broker, with the keys of both sides."""

    def __init__(self, url: str, **keys: Any) -> None:
        self.url, self.keys = url, keys
        self.context = Context(f"x{time.time_ns()}{next(_numbers)}", 256 << 20, 100_000, 64 << 20)
        self.name = self.context.pipeline
        self._open: list[Any] = []

    def publisher(self, **keys: Any) -> targets.RabbitTarget:
        config = targets.Config(url=self.url, **{**self.keys, **keys})
        made = targets.open(config, self.context)
        self._open.append(made)
        return made

    def begun(self, **keys: Any) -> targets.RabbitTarget:
        made = self.publisher(**keys)
        made.begin(self.name, 1)
        return made

    def source(self, **keys: Any) -> sources.RabbitSource:
        return sources.open(sources.Config(url=self.url, **keys), self.context)

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture
def late_notes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it lets the notes give nothing before whoever waits for silence takes them for read, as a replica may."""
    real = notes.read_stream

    def late(wire: Any, queue: str, start: int | str, quiet: float | None = None, **rest: Any) -> Iterator[Any]:
        return real(wire, queue, start, **rest) if quiet is None else iter(())

    return lambda: monkeypatch.setattr(notes, "read_stream", late)


@pytest.fixture
def exchange(rabbitmq: RabbitMq) -> Iterator[Callable[..., Exchange]]:
    made: list[Exchange] = []

    def make(**keys: Any) -> Exchange:
        made.append(Exchange(rabbitmq.url(), **keys))
        return made[-1]

    yield make
    for each in made:
        each.close()
        for queue in rabbitmq.queues():
            if queue.startswith(each.name):
                rabbitmq.delete_queue(queue)


class Reader:
    """An instance that applies into a dictionary. `events` are all that it applied, in order."""

    def __init__(self, exchange: Exchange, claims: Claims | None = None, **keys: Any) -> None:
        self.source = exchange.source(**keys)
        self.claims = claims or Claims()
        self.stream = self.source.join(self.claims, lambda shape: route(shape), {})
        exchange._open.append(self.stream)
        self.rows: dict[str, str | None] = {}
        self.events: list[tuple[str, str | None]] = []
        self.meetings: dict[str, dict[str, int]] = {}
        self.finished: set[str] = set()
        self.commit_times: set[float] = set()

    def step(self, *, ack: bool = True) -> ChangeBatch | Heartbeat | None:
        found = self.stream.read(0.1)
        if found is None:
            return None
        if isinstance(found, ChangeBatch):
            self.commit_times.add(found.commit_time)
            for each in found.steps:
                self._apply(each)
        assert isinstance(found.end, Shares)
        self.claims.record(found.end.shares)
        if ack:
            self.stream.ack(found.end)
        return found

    def until(self, done: Any, limit: float = 60, *, ack: bool = True) -> None:
        deadline = time.monotonic() + limit
        while not done():
            assert time.monotonic() < deadline, f"still waiting with {len(self.events)} events"
            self.step(ack=ack)

    def to_the_end(self) -> None:
        end = self.source.end()
        self.until(lambda: self.stream.reached(end, self.claims.shares))

    def fails(self, limit: float = 60) -> CdcflowError:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            try:
                self.step()
            except CdcflowError as error:
                return error
        raise AssertionError("nothing failed")

    def _apply(self, step: object) -> None:
        if isinstance(step, Meeting):
            if step.name in self.finished:  # it came again
                self.stream.resume(step.share, step.place)
                return
            arrived = self.meetings.setdefault(step.name, {})
            arrived[step.share] = step.place
            if arrived.keys() == step.shares:
                self.finished.add(step.name)
                if step.then is not None:
                    self.rows.clear()
                    self.events.append(("truncate", None))
                for share, place in arrived.items():
                    self.stream.resume(share, place)
        elif isinstance(step, Truncate) and step.routes:
            self.rows.clear()
            self.events.append(("truncate", None))
        elif isinstance(step, Rows):
            for frame in step.frames.values():
                for op, before, after in frame.rows():
                    row = after if after is not None else before
                    assert row is not None
                    key, value = row[0].decode(), row[1].decode() if after is not None else None  # type: ignore[union-attr]
                    if op == ord("D"):
                        self.rows.pop(key, None)
                    else:
                        self.rows[key] = value
                    self.events.append((key, value))


def begun_and_read(shop: Exchange, count: int) -> tuple[targets.RabbitTarget, Reader]:
    """Publish so many rows and read them all; return the publisher and the reader."""
    target = shop.begun()
    target.apply(batch(100, rows("I", pairs(1, count))))
    reader = Reader(shop)
    reader.until(lambda: len(reader.events) == count)
    return target, reader
