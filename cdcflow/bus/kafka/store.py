"""The state of a publisher in its compacted topic: whoever takes the lease shuts out every earlier writer."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from cdcflow.bus.kafka import statetopic
from cdcflow.bus.kafka.errors import fenced, translate
from cdcflow.bus.kafka.fence import applier_id, loader_id, store_id
from cdcflow.bus.kafka.session import Session
from cdcflow.bus.kafka.statetopic import LEASE, POSITION, SOURCE, Record, StateTopic, position_record
from cdcflow.bus.kafka.topics import Topics
from cdcflow.bus.kafka.waiting import Admin
from cdcflow.errors import AccessDenied, Fenced, TargetUnavailable
from cdcflow.model.copy import DoneChunk, TableRecord, TableState
from cdcflow.model.position import Checkpoint
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# So many shapes of a table are remembered: more changes than this never wait to be applied.
_MOST_SHAPES: Final = 50

# How often a lease is said to be alive, and after what silence nobody seems to run.
_RENEW_SECONDS: Final = 10
_SILENT_SECONDS: Final = 40

_ASK_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """What `cdcflow status` shows. `running`: somebody holds the lease and said so a short while ago."""

    checkpoint: Checkpoint
    owner: dict[str, str]
    leased_at: datetime
    updated_at: datetime
    running: bool


class KafkaStore:
    """Implements `model.ports.Store`. Any thread.

    There is no waiting for a lease: taking it raises the epoch and shuts out who had it, who is told so at the next
    write or look.
    """

    takes_over = True

    def __init__(self, client: Mapping[str, Any], at: str, pipeline: str, replication: int | None) -> None:
        self.address = at
        self._client = dict(client)
        self._default, self._replication = pipeline, replication
        self._admin = Admin(client, at)
        self._topics = Topics(self._admin, at)
        self._views: dict[str, StateTopic] = {}
        self._session: Session | None = None
        self._pipeline, self._epoch, self._lease_id = "", 0, ""
        self._renewed_at = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.RLock()

    def migrate(self) -> None:
        """As `Store.migrate`: makes the topic.

        Raises:
            AccessDenied: the user may not make it.
        """
        self._make(self._default)

    def acquire(self, pipeline: str, owner: Mapping[str, str]) -> int:
        """As `Store.acquire`; never refused. When it returns, nothing of an earlier holder can be committed."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None
            self._make(pipeline)
            session = self._new_session(store_id(pipeline))
            session.open()
            try:
                self._shut_out(pipeline, self._read(pipeline))
                # Once more: what they committed before they were shut out counts.
                before = self._read(pipeline).get(LEASE, {})
                if before and not before["released_at"] and _age(str(before["renewed_at"])) < _SILENT_SECONDS:
                    log.warning("taking the pipeline over from another instance", **before["owner"])
                epoch = int(before.get("epoch", 0)) + 1
                now = _now()
                lease_id = uuid4().hex
                lease: Record = {
                    "epoch": epoch,
                    "id": lease_id,
                    "owner": dict(owner),
                    "leased_at": now,
                    "renewed_at": now,
                    "released_at": None,
                }
                self._write(session, pipeline, {LEASE: lease})
                # Who began in between saw the old lease for the last time: under an id that was shut out before, or
                # as a loader that put itself on record first.
                self._shut_out(pipeline, self._read(pipeline))
            except BaseException:
                session.close()
                raise
            self._session, self._pipeline, self._epoch, self._lease_id = session, pipeline, epoch, lease_id
            self._renewed_at = datetime.now(UTC)
            return epoch

    def held(self) -> bool:
        """As `Store.held`. Raises TargetUnavailable where the brokers do not answer."""
        with self._lock:
            if self._session is None:
                return False
            lease = self._read(self._pipeline).get(LEASE)
            if lease is None or lease["id"] != self._lease_id:
                self.release()
                return False
            if (datetime.now(UTC) - self._renewed_at).total_seconds() >= _RENEW_SECONDS:
                with self._fenced(self._pipeline, self._epoch) as changes:
                    changes[LEASE] = {**lease, "renewed_at": _now()}
                self._renewed_at = datetime.now(UTC)
            return True

    def checkpoint(self, pipeline: str) -> Checkpoint | None:
        """As `Store.checkpoint`. Its position is '' from the first lease until one was saved."""
        return _checkpoint(pipeline, self._read(pipeline))

    def remembered(self, pipeline: str) -> Remembered | None:
        """Return what is remembered of the pipeline itself, None when there is nothing."""
        records = self._read(pipeline)
        checkpoint = _checkpoint(pipeline, records)
        if checkpoint is None:
            return None
        lease, position = records[LEASE], records.get(POSITION, {})
        alive = max(str(lease["renewed_at"]), str(position.get("at", "")))
        running = not lease["released_at"] and _age(alive) < _SILENT_SECONDS and not _died(lease["owner"])
        leased_at = datetime.fromisoformat(lease["leased_at"])
        updated_at = datetime.fromisoformat(str(position.get("at", lease["leased_at"])))
        return Remembered(checkpoint, dict(lease["owner"]), leased_at, updated_at, running)

    def save(self, checkpoint: Checkpoint) -> None:
        """As `Store.save`."""
        with self._fenced(checkpoint.pipeline, checkpoint.epoch) as changes:
            changes[SOURCE] = {"source": dict(checkpoint.source)}
            changes[POSITION] = position_record(checkpoint.position, checkpoint.epoch)

    def tables(self, pipeline: str) -> dict[int, TableRecord]:
        """As `Store.tables`."""
        found = statetopic.numbered(self._read(pipeline), "table")
        return {numbers[0]: statetopic.table_of(numbers[0], kept) for numbers, kept in found}

    def put(self, pipeline: str, epoch: int, records: Sequence[TableRecord]) -> None:
        """As `Store.put`."""
        with self._fenced(pipeline, epoch) as changes:
            changes.update((statetopic.table_key(each.table_id), statetopic.table_record(each)) for each in records)
            anew = {each.table_id for each in records if each.state is TableState.PENDING}
            if anew:
                # What a table was like before a copy that starts over, nobody will ask.
                changes.update(dict.fromkeys(_keys_of(self._read(pipeline), anew, "shape", "wish")))

    def ask(self, pipeline: str, table_ids: Sequence[int]) -> None:
        """As `Store.ask`: without the lease, and so in no transaction.

        Raises:
            TargetUnavailable, AccessDenied: as `errors.translate`.
        """
        settings: dict[str, Any] = {**self._client, "enable.idempotence": True}
        refused: list[KafkaError] = []

        def told(error: KafkaError | None, message: Message) -> None:
            del message
            if error is not None:
                refused.append(error)

        topic = statetopic.topic_of(pipeline)
        try:
            producer = Producer(settings)
            for table_id in table_ids:
                value = statetopic.value_of({"at": _now()})
                producer.produce(topic, value, statetopic.wish_key(table_id).encode(), 0, on_delivery=told)
            left = producer.flush(_ASK_SECONDS)
        except KafkaException as error:
            raise translate(error, at=self.address, topic=topic) from None
        if refused:
            raise translate(refused[0], at=self.address, topic=topic)
        if left:
            raise TargetUnavailable("the brokers did not take the wish", at=self.address)

    def asked(self, pipeline: str) -> list[int]:
        """As `Store.asked`."""
        records = self._read(pipeline)
        wished = [numbers[0] for numbers, _ in statetopic.numbered(records, "wish")]
        return [table_id for table_id in wished if statetopic.table_key(table_id) in records]

    def drop(self, pipeline: str, epoch: int, table_ids: Sequence[int]) -> None:
        """As `Store.drop`."""
        with self._fenced(pipeline, epoch) as changes:
            kinds = ("table", "wish", "chunk", "shape")
            changes.update(dict.fromkeys(_keys_of(self._read(pipeline), set(table_ids), *kinds)))

    def chunks(self, pipeline: str, table_id: int) -> list[DoneChunk]:
        """As `Store.chunks`, by number."""
        found = statetopic.numbered(self._read(pipeline), "chunk")
        return [statetopic.chunk_of(table_id, numbers[1], kept) for numbers, kept in found if numbers[0] == table_id]

    def forget_chunks(self, pipeline: str, epoch: int, table_id: int) -> None:
        """As `Store.forget_chunks`."""
        with self._fenced(pipeline, epoch) as changes:
            changes.update(dict.fromkeys(_keys_of(self._read(pipeline), {table_id}, "chunk")))

    def remember(self, pipeline: str, epoch: int, table_id: int, position: str, shape: str) -> None:
        """As `Store.remember`. The oldest go when there are more than `_MOST_SHAPES`."""
        with self._fenced(pipeline, epoch) as changes:
            found = statetopic.numbered(self._read(pipeline), "shape")
            known = [(numbers[1], kept) for numbers, kept in found if numbers[0] == table_id]
            # Said again, it comes last: an attempt that was killed may have remembered later shapes before.
            gone = [version for version, kept in known if kept["position"] == position]
            kept_versions = [version for version, _ in known if version not in gone]
            gone += kept_versions[: max(0, len(kept_versions) - _MOST_SHAPES + 1)]
            changes.update((statetopic.shape_key(table_id, version), None) for version in gone)
            newest = known[-1][0] + 1 if known else 1
            changes[statetopic.shape_key(table_id, newest)] = {"position": position, "shape": shape}

    def history(self, pipeline: str) -> dict[int, list[tuple[str, str]]]:
        """As `Store.history`."""
        found: dict[int, list[tuple[str, str]]] = {}
        for numbers, kept in statetopic.numbered(self._read(pipeline), "shape"):
            found.setdefault(numbers[0], []).append((kept["position"], kept["shape"]))
        return found

    def forget(self, pipeline: str) -> None:
        """As `Store.forget`: the topic is deleted, or emptied where we may not delete it."""
        with self._lock:
            topic = statetopic.topic_of(pipeline)
            try:
                if self._topics.remove(topic):
                    self._gone(topic)
            except AccessDenied:
                records = self._read(pipeline)
                if self._session is None or pipeline != self._pipeline:
                    session = self._new_session(store_id(pipeline))
                    session.open()
                    try:
                        self._write(session, pipeline, dict.fromkeys(records))
                    finally:
                        session.close()
                else:
                    self._write(self._session, pipeline, dict.fromkeys(records))
            self._view(pipeline).forget()
            if pipeline == self._pipeline and self._session is not None:
                self._session.close()
                self._session, self._epoch = None, 0

    def release(self) -> None:
        """As `Store.release`."""
        with self._lock:
            session, self._session = self._session, None
            if session is None:
                return
            try:
                lease = self._read(self._pipeline).get(LEASE)
                if lease is not None and lease["id"] == self._lease_id:
                    self._write_ours(session, {LEASE: {**lease, "released_at": _now()}})
            finally:
                session.close()

    def close(self) -> None:
        """As `Store.close`. The lease goes too."""
        try:
            self.release()
        finally:
            for view in self._views.values():
                view.close()
            self._views.clear()

    # -- within

    def _make(self, pipeline: str) -> None:
        topic = statetopic.topic_of(pipeline)
        if not self._topics.find([topic]) and self._topics.make(topic, 1, self._replication, statetopic.SETTINGS):
            log.info("made the topic of the state", topic=topic)

    def _gone(self, topic: str) -> None:
        until = datetime.now(UTC) + timedelta(seconds=10)
        while self._topics.find([topic]) and datetime.now(UTC) < until:
            pass  # each look is a round trip

    def _shut_out(self, pipeline: str, records: Mapping[str, Record]) -> None:
        """End what any earlier holder has open, and keep it from going on."""
        if LEASE not in records:
            return
        loaders = [loader_id(pipeline, numbers[0]) for numbers, _ in statetopic.numbered(records, "loader")]
        for each in (applier_id(pipeline), *loaders):
            session = self._new_session(each)
            session.open()
            session.close()

    def _new_session(self, transactional_id: str) -> Session:
        client = {name: value for name, value in self._client.items() if name != "transaction.timeout.ms"}
        return Session(
            client, self.address, transactional_id, timeout_ms=60_000, message_bytes=statetopic.MESSAGE_BYTES
        )

    def _view(self, pipeline: str) -> StateTopic:
        with self._lock:
            if pipeline not in self._views:
                self._views[pipeline] = StateTopic(self._client, self._admin, self.address, pipeline)
            return self._views[pipeline]

    def _read(self, pipeline: str) -> dict[str, Record]:
        return self._view(pipeline).read()

    def _write(self, session: Session, pipeline: str, changes: Mapping[str, Record | None]) -> None:
        if not changes:
            return
        topic = statetopic.topic_of(pipeline)
        try:
            session.begin()
            for key, record in changes.items():
                session.send(topic, None if record is None else statetopic.value_of(record), key.encode(), 0)
            session.commit()
        except BaseException:
            session.abort()
            raise
        # Whoever looks next sees it.
        self._view(pipeline).read(session.written.get(topic, -1))

    @contextmanager
    def _fenced(self, pipeline: str, epoch: int) -> Iterator[dict[str, Record | None]]:
        """Collect changes, and write them in one transaction that a newer lease refuses."""
        with self._lock:
            if self._session is None or (pipeline, epoch) != (self._pipeline, self._epoch):
                raise fenced(self.address, "our lease is no longer the newest")
            changes: dict[str, Record | None] = {}
            yield changes
            if not self._session.is_open:  # an abort that failed took it along; nobody may have come since
                self._reopen()
            self._write_ours(self._session, changes)

    def _write_ours(self, session: Session, changes: Mapping[str, Record | None]) -> None:
        """Write under our lease.

        Raises:
            Fenced: another one has the lease.
            TargetUnavailable: our producer was shut out, and the lease is ours still.
            CdcflowError: as `errors.translate`.
        """
        try:
            self._write(session, self._pipeline, changes)
        except Fenced as error:
            # Giving up the transaction took longer than a takeover does: who shut us out may never have come so far.
            if self._read(self._pipeline).get(LEASE, {}).get("id") != self._lease_id:
                raise
            what = "our producer was shut out by one without a lease"
            raise TargetUnavailable(what, at=self.address, why=error.why) from error

    def _reopen(self) -> None:
        assert self._session is not None
        self._session.open()
        lease = self._read(self._pipeline).get(LEASE)
        if lease is None or lease["id"] != self._lease_id:
            self._session.close()
            self._session = None
            raise fenced(self.address, "our lease is no longer the newest")


def _died(owner: Mapping[str, str]) -> bool:
    """Whether the process is one of this host and gone; whoever was killed could not say so."""
    process = owner.get("process", "")
    if owner.get("host") != socket.gethostname() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _keys_of(records: Mapping[str, Record], table_ids: set[int], *kinds: str) -> list[str]:
    found = []
    for key in records:
        kind, _, rest = key.partition("/")
        if kind in kinds and int(rest.partition("/")[0]) in table_ids:
            found.append(key)
    return found


def _checkpoint(pipeline: str, records: Mapping[str, Record]) -> Checkpoint | None:
    lease = records.get(LEASE)
    if lease is None:
        return None
    position, source = records.get(POSITION, {}), records.get(SOURCE, {})
    return Checkpoint(pipeline, position.get("position", ""), dict(source.get("source", {})), lease["epoch"])


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _age(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
