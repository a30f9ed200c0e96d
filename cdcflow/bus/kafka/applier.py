"""Batches to the brokers: messages and position in one transaction, durable when it is committed."""

from __future__ import annotations

from dataclasses import dataclass

from cdcflow.bus.formats import Format
from cdcflow.bus.kafka.catalog import Catalog
from cdcflow.bus.kafka.errors import translate
from cdcflow.bus.kafka.fence import Lease
from cdcflow.bus.kafka.ledgers import Numbering, TransactionEvents
from cdcflow.bus.kafka.publisher import Publisher
from cdcflow.bus.kafka.session import Session
from cdcflow.bus.kafka.statetopic import POSITION, StateTopic, position_record, value_of
from cdcflow.errors import CdcflowError, Fenced, SchemaStop, TargetUnavailable
from cdcflow.model.change import ChangeBatch, Receipt, Rows, SchemaChange, Step, Truncate
from cdcflow.model.position import Position
from cdcflow.model.route import Mode, OnTruncate, Route, SchemaChanges
from cdcflow.ops.faults import moment
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the position is recorded."""

    topic: str
    epoch: int


class Applier:
    """The applying half of the target. One thread."""

    def __init__(
        self, session: Session, catalog: Catalog, made: Format, lease: Lease, state: StateTopic, at: str
    ) -> None:
        self._session, self._catalog, self._lease, self._at = session, catalog, lease, at
        self._publisher = Publisher(session, catalog, made, state)
        self._place = Place(state.name, lease.epoch)
        self._numbering = Numbering()
        self._events = TransactionEvents(catalog.transactions) if catalog.transactions else None
        self._durable: Position | None = None

    @property
    def careful(self) -> bool:
        """Whether the delivery of each message is watched by itself, so that a refusal names its row."""
        return self._publisher.careful

    @careful.setter
    def careful(self, wanted: bool) -> None:
        self._publisher.careful = wanted

    def open(self) -> None:
        """Shut out whoever published before.

        Raises:
            Fenced: the lease is no longer ours.
        """
        self._session.open()
        self._lease.verify()

    def apply(self, batch: ChangeBatch) -> Receipt:
        """See `model.ports.Target.apply`."""
        whole = batch.complete and not self._session.inside
        try:
            receipt = self._attempt(batch)
        except CdcflowError as error:
            voided, told = self._session.voided, self._told(error)
            self.rollback()
            judged = self._lease.judged(told)
            unwatched = not self.careful and voided and not isinstance(judged, Fenced)
            # Nobody watched single messages: again, to learn which of them was refused, and why.
            self.careful = unwatched
            if unwatched and whole and self._session.is_open:
                log.info("a transaction is published again, message by message", why=judged.why)
                return self.apply(batch)
            if unwatched and not isinstance(judged, TargetUnavailable):
                # Of a transaction in pieces: read again, and watched then.
                judged = TargetUnavailable("a message was refused", at=self._at, why=judged.what)
            raise judged from error
        except BaseException:
            self.rollback()
            raise
        if batch.complete:
            self.careful = False
        return receipt

    def heartbeat(self, position: Position) -> Receipt:
        """See `model.ports.Target.heartbeat`."""
        try:
            self._catalog.watch()
            self._session.begin()
            self._record(position)
            self._session.commit()
        except CdcflowError as error:
            self.rollback()
            raise self._lease.judged(error) from error
        except BaseException:
            self.rollback()
            raise
        self._durable = position
        return Receipt(position, durable=True)

    def flush(self) -> Position | None:
        """See `model.ports.Target.flush`: a committed transaction is on every replica that has to have it."""
        return self._durable

    def rollback(self) -> None:
        """Give the open transaction up; what comes next starts over from the recorded position."""
        self._session.abort()
        self._publisher.forget()
        self._numbering.reset()
        if self._events is not None:
            self._events.reset()

    def close(self) -> None:
        """Let the producer go; what was not committed never will be."""
        self._session.close()

    def _attempt(self, batch: ChangeBatch) -> Receipt:
        session = self._session
        if not session.inside:
            self._catalog.watch()
            session.begin()
        self._numbering.batch(batch)
        for step in batch.steps:
            self._step(step)
        session.check_age()
        if not batch.complete:
            if self._events is not None:
                self._events.piece()
            moment("piece written")
            return Receipt(None, durable=False)
        if self._events is not None:
            self._events.send(self._send, self._numbering.stamps)
        self._record(batch.end)
        moment("batch sent")
        session.commit()
        moment("batch committed")
        self._durable = batch.end
        return Receipt(batch.end, durable=True)

    def _send(self, topic: str, value: bytes, key: bytes) -> None:
        self._session.send(topic, value, key, 0)

    def _step(self, step: Step) -> None:
        if isinstance(step, Rows):
            stamps = self._numbering.spread(step)
            if self._events is not None:
                self._events.count(step, stamps)
            self._publisher.rows(step, stamps)
        elif isinstance(step, Truncate):
            for route in step.routes:
                if route.on_truncate is OnTruncate.TRUNCATE and route.mode is Mode.MIRROR:
                    self._publisher.truncate(route, self._numbering.here())
        elif isinstance(step, SchemaChange):
            self._follow(step.old, step.new)

    def _follow(self, old: Route, new: Route) -> None:
        """Go on in a new shape: the readers are told of it before its first row."""
        if new.schema_changes is SchemaChanges.IGNORE:
            return
        before, now = self._catalog.topic_of(old), self._catalog.topic_of(new)
        if old.target != new.target or before != now:
            raise SchemaStop(
                f"table {old.source.name} is now called {new.source.name}, and its rows would go to another topic",
                at=f"topic {before}",
                why=f"the events so far are there, and the next would be in {now}",
                do=f"route {new.source.name} with `to: {old.target}` in the rules to go on in the same topic,"
                " or exclude it",
            )
        if new.schema_changes is SchemaChanges.STOP:
            if self._publisher.lane(old).writer.fingerprint == self._publisher.lane(new).writer.fingerprint:
                return
            raise SchemaStop(
                f"the shape of table {new.source.name} changed",
                at=f"topic {now}",
                why="the rules say `schema_changes: stop` for it",
                do=f"cdcflow resync {new.source.name} publishes the table again as the source has it now",
            )
        lane = self._publisher.lane(new)
        if not lane.told:
            log.info("rows have another shape from here on", topic=now, source=str(new.source.name))
        if new.source.gives_names_away(old.source):
            # No row that has a name from before may be applied after one that has it for another column.
            self._publisher.part(lane)
        self._publisher.tell(lane)

    def _record(self, position: Position) -> None:
        record = position_record(str(position), self._place.epoch)
        self._session.send(self._place.topic, value_of(record), POSITION.encode(), 0)

    def _told(self, error: CdcflowError) -> CdcflowError:
        """Return the error of the message that the brokers refused, with its table and key."""
        refused = self._session.refused()
        if refused is None:
            return error
        topic, key, why = refused
        found = translate(why, at=self._at, topic=topic)
        route = self._publisher.route_of(topic)
        return found if route is None else self._catalog.rejected(found, route, key)
