"""Members of a group over a real Kafka, with claims in memory in place of a target's."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cdcflow.bus.formats import OP, SCHEMA
from cdcflow.bus.kafka import catalogue, stream, watch
from cdcflow.bus.kafka import source as kafka_source
from cdcflow.bus.kafka.source import Config, KafkaSource
from cdcflow.bus.kafka.stream import KafkaStream
from cdcflow.errors import CdcflowError
from cdcflow.model.change import ChangeBatch, Heartbeat
from cdcflow.model.context import Context
from cdcflow.model.position import Share, Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until
from tests.unit.bus_double import FORMAT, Row, in_order, record, route_of, said, table

TWO = table("id", "v")
_numbers = itertools.count(1)


class Record:
    """What a target has on record: each share's epoch and place. Shared by the members of a group."""

    def __init__(self) -> None:
        self.shares: dict[str, Share] = {}
        self.lock = threading.Lock()
        self.said: list[tuple[str, tuple[str, ...]]] = []
        self.refused = 0

    def claim(self, names: Sequence[str]) -> dict[str, Share]:
        with self.lock:
            for name in names:
                old = self.shares.get(name, Share(0, 0))
                self.shares[name] = Share(old.epoch + 1, old.place, old.identity)
            self.said.append(("take", tuple(sorted(names))))
            return {name: self.shares[name] for name in names}

    def write(self, end: Shares) -> bool:
        """Record a position; False where a share is somebody else's by now."""
        with self.lock:
            if any(self.shares[name].epoch != at.epoch for name, at in end.shares.items()):
                self.refused += 1
                return False
            self.shares.update({name: replace(self.shares[name], place=at.place) for name, at in end.shares.items()})
            return True

    def begin(self, places: Mapping[str, int]) -> None:
        with self.lock:
            self.shares = {**{name: Share(1, place) for name, place in places.items()}, **self.shares}

    def identify(self, shares: Mapping[str, Share]) -> None:
        with self.lock:
            for name, at in shares.items():
                same = self.shares[name].identity in ("", at.identity)
                place = self.shares[name].place if same else 0
                self.shares[name] = replace(self.shares[name], place=place, identity=at.identity)


@dataclass
class Member:
    """One instance: what it reads goes on record at once. Used by one thread."""

    stream: KafkaStream
    record: Record
    rows: list[tuple[str, Any, Any]] = field(default_factory=list)
    batches: list[ChangeBatch] = field(default_factory=list)

    def turn(self, wait: float = 0.05) -> ChangeBatch | Heartbeat | None:
        piece = self.stream.read(wait)
        if piece is not None:
            assert isinstance(piece.end, Shares)
            if self.record.write(piece.end):
                self.stream.ack(piece.end)
                if isinstance(piece, ChangeBatch):
                    self.batches.append(piece)
                    self.rows += in_order(piece.steps)
        return piece

    def until(self, condition: Callable[[], bool], limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, f"not within {limit} s; {len(self.rows)} rows, {self.record.shares}"
            self.turn()

    @property
    def ids(self) -> list[int]:
        return [int(after[0]) for _, _, after in self.rows if after is not None]


class Claimed:
    """A `Claims` for one member: giving has nothing to wait for, as everything read is on record already."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def take(self, names: Sequence[str]) -> Mapping[str, Share]:
        return self._record.claim(names)

    def give(self, names: Sequence[str]) -> None:
        self._record.said.append(("give", tuple(sorted(names))))

    def lost(self, names: Sequence[str]) -> None:
        self._record.said.append(("lost", tuple(sorted(names))))

    def recorded(self) -> Mapping[str, Share]:
        return dict(self._record.shares)

    def begin(self, places: Mapping[str, int]) -> None:
        self._record.begin(places)

    def identify(self, shares: Mapping[str, Share]) -> None:
        self._record.identify(shares)


class Group:
    """Topics of one publisher and a group that reads them."""

    def __init__(self, kafka: Kafka, name: str) -> None:
        self.kafka, self.name = kafka, name
        self.topic = f"{name}.public.t"
        self.record = Record()

    def make(self, partitions: int = 4) -> None:
        self.kafka.create_topic(f"{self.name}.schema_changes", cleanup_policy="compact")
        self.kafka.create_topic(self.topic, partitions)
        self.tell(TWO, "two")

    def tell(self, shape: Table, fingerprint: str) -> None:
        self.kafka.produce(f"{self.name}.schema_changes", *record(shape, fingerprint))

    def put(self, row: Row, op: str = "c", partition: int = 0, fingerprint: str = "two", **headers: str) -> None:
        more = [(f"cdcflow.{name}", value) for name, value in headers.items()]
        value = said(op, row if op != "t" else None)
        self.kafka.produce(self.topic, "k", value, [(OP, op), (SCHEMA, fingerprint), *more], partition)

    def source(self, **options: Any) -> KafkaSource:
        config = Config(url=self.kafka.url(), topics=[f"{self.name}.*"], **options)
        return KafkaSource(config, Context(self.name, 256 << 20, 50_000, 32 << 20))

    @contextmanager
    def member(self, known: Mapping[int, Route] | None = None, **options: Any) -> Iterator[Member]:
        source = self.source(**options)
        stream = source.join(Claimed(self.record), route_of, known or {})
        try:
            yield Member(stream, self.record)
        finally:
            stream.close()
            source.close()

    @property
    def taken(self) -> list[str]:
        """The shares that members took, in order, each as often as it was taken."""
        return [name for kind, names in self.record.said if kind == "take" for name in names]

    def place(self, partition: int = 0) -> int:
        share = self.record.shares.get(f"{self.topic}/{partition}")
        return share.place if share is not None else 0


@pytest.fixture
def group(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Topics and a group of this test alone, whose messages are those of `unit.bus_double`."""
    monkeypatch.setattr(kafka_source, "decoding", lambda *_: FORMAT)
    # A machine that stands still for a while is no broker that is away.
    monkeypatch.setattr(watch, "_ANSWER_SECONDS", 30.0)
    monkeypatch.setattr(stream, "AWAY_SECONDS", 120.0)
    monkeypatch.setattr(catalogue, "_OPEN_SECONDS", 120.0)
    made = Group(kafka, f"members{os.getpid()}_{next(_numbers)}")
    made.make()
    return made


@contextmanager
def turning(member: Member) -> Iterator[None]:
    """Have a thread read for `member` until the block ends."""
    stop = threading.Event()
    errors: list[Exception] = []

    def run() -> None:
        try:
            while not stop.is_set():
                member.turn()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for error in errors:
            raise error


def idle_until(member: Member, condition: Callable[[], bool]) -> None:
    """Have `member` read nothing, as when its target is away, until the condition holds."""

    def holds() -> bool:
        member.stream.idle()
        return condition()

    until(holds, limit=60)


def fails(member: Member, limit: float = 60) -> CdcflowError:
    """Return the error that the member ends with."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            member.turn()
        except CdcflowError as error:
            return error
    raise AssertionError(f"no error within {limit} s")
