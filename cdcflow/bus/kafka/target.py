"""Kafka as a target: one topic for each table, one message for each change, exactly once by transactions."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import ResourceType

from cdcflow.bus.formats import Format, Stamp
from cdcflow.bus.formats.opening import open_format
from cdcflow.bus.kafka import target_check
from cdcflow.bus.kafka.applier import Applier
from cdcflow.bus.kafka.catalog import Catalog
from cdcflow.bus.kafka.config import Config
from cdcflow.bus.kafka.connection import address
from cdcflow.bus.kafka.errors import translate
from cdcflow.bus.kafka.fence import Lease, Numbers, applier_id, enter, loader_id
from cdcflow.bus.kafka.loader import KafkaLoader
from cdcflow.bus.kafka.publisher import Publisher
from cdcflow.bus.kafka.session import LOADER_QUEUE_KBYTES, LONGEST_TRANSACTION_MS, QUEUE_KBYTES, Session
from cdcflow.bus.kafka.statetopic import MESSAGE_BYTES, StateTopic, chunk_key, numbered
from cdcflow.bus.kafka.store import KafkaStore
from cdcflow.bus.kafka.topics import Topics
from cdcflow.bus.kafka.waiting import ANSWER_SECONDS, Admin
from cdcflow.errors import CdcflowError
from cdcflow.model.change import ChangeBatch, Receipt
from cdcflow.model.check import Finding
from cdcflow.model.context import Context
from cdcflow.model.ports import Capabilities
from cdcflow.model.position import Position
from cdcflow.model.route import Route
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

# The largest batch of messages for a partition. Brokers refuse a whole batch that is larger than the topic's
# max.message.bytes (1 MB by default), also where each message in it is small; larger ones gave no higher rate.
_BATCH_BYTES: Final = 256 * 1024


def open(config: Config, context: Context) -> KafkaTarget:  # noqa: A001 - the word every connector uses
    """Return the target. Connects to nothing yet.

    Raises:
        ConfigError: the URL, the login, a property, or the format's settings are wrong.
    """
    return KafkaTarget(config, config.client, context.pipeline)


def open_store(config: Config, context: Context) -> KafkaStore:
    """Return the store, which is a topic of the same brokers. Connects to nothing yet."""
    return KafkaStore(config.client, address(config.url), context.pipeline, config.replication)


class KafkaTarget:
    """Implements `model.ports.Target`."""

    capabilities = Capabilities(transactional=True, holds_state=True, ddl_in_transaction=True, schema_changes=True)

    def __init__(self, config: Config, client: dict[str, Any], pipeline: str) -> None:
        self.address = address(config.url)
        self._config, self._client, self._pipeline = config, client, pipeline
        self._admin = Admin(client, self.address)
        self._topics = Topics(self._admin, self.address)
        self._catalog = Catalog(config, self._topics, self.address, pipeline)
        self._state = StateTopic(client, self._admin, self.address, pipeline)
        self._lease: Lease | None = None
        self._applier: Applier | None = None
        self._numbers = Numbers()
        self._watched = threading.Event()
        self._side: tuple[int, Session, Publisher] | None = None
        self._timeout_ms = 0
        self._lock = threading.Lock()

    def check(self, routes: Sequence[Route]) -> list[Finding]:
        return target_check.findings(self._config, self._client, self._admin, self._catalog, routes, self._pipeline)

    def identity(self) -> dict[str, str]:
        """No source of rows is a broker."""
        return {}

    def holds(self, route: Route) -> bool:
        """What is in the topic already are events, and more of them do no harm."""
        return False

    def create(self, route: Route) -> None:
        """Make the topic where it is missing, and tell the readers the table's shape before its first row."""
        self._catalog.make(route)
        with self._aside() as (session, publisher):
            lane = publisher.lane(route)
            # In a topic that was made anew: readers may have rows of the one before. A copy that goes on lacks chunks.
            if publisher.is_elsewhere(lane) and not self._chunks(route):
                publisher.void(lane)
                publisher.truncate(route, Stamp(snapshot=True))
            publisher.tell(lane)
            session.commit()

    def clear(self, route: Route, before: Route) -> None:
        """Tell the readers that the table is empty, and forget its chunks, in one transaction."""
        self._catalog.make(route)
        with self._aside() as (session, publisher):
            # Also in a topic that was made a moment ago: what readers have of the one before it is void.
            publisher.void(publisher.lane(route))
            publisher.truncate(route, Stamp(snapshot=True))
            for number in self._chunks(route):
                session.send(self._state.name, None, chunk_key(route.source.id, number).encode(), 0)
            session.commit()
        log.info("told that a table is empty", topic=self._catalog.topic_of(route))

    def _chunks(self, route: Route) -> list[int]:
        """Return the numbers of the table's chunks that are done."""
        return [numbers[1] for numbers, _ in numbered(self._state.read(), "chunk") if numbers[0] == route.source.id]

    def finish(self, routes: Sequence[Route]) -> None:
        """A topic has no indexes."""

    def adapt(self, routes: Sequence[Route]) -> bool:
        """A topic has no types of its own."""
        return False

    def loader(self) -> KafkaLoader:
        lease = self._begun()
        with self._lock:
            number = self._numbers.take()
        session = self._session(loader_id(self._pipeline, number))
        return KafkaLoader(
            session,
            number,
            self._catalog,
            self._made,
            lease,
            self._state,
            self.address,
            self._given_back,
            self._watched,
        )

    def begin(self, pipeline: str, epoch: int) -> None:
        careful = self._applier is not None and self._applier.careful
        self.close()
        if self._lease is None:
            self._made.ready()
        self._lease = Lease(self._state, self.address, epoch)
        self._state.forget()
        self._timeout_ms = self._longest_transaction()
        self._catalog.make_own()
        applier = Applier(
            self._session(applier_id(pipeline)),
            self._catalog,
            self._made,
            self._lease,
            self._state,
            self.address,
        )
        try:
            applier.open()
        except BaseException:
            applier.close()
            raise
        applier.careful = careful
        self._applier = applier

    def apply(self, batch: ChangeBatch) -> Receipt:
        return self._begun_applier().apply(batch)

    def heartbeat(self, position: Position) -> Receipt:
        return self._begun_applier().heartbeat(position)

    def flush(self, *, force: bool) -> Position | None:
        return self._begun_applier().flush()

    def close(self) -> None:
        if self._applier is not None:
            self._applier.close()
            self._applier = None
        with self._lock:
            self._close_side()
        self._state.close()

    # -- within

    @cached_property
    def _made(self) -> Format:
        """The format of all who publish: a schema that one of them has registered is known to the others."""
        return open_format(self._config, self._pipeline)

    @contextmanager
    def _aside(self) -> Iterator[tuple[Session, Publisher]]:
        """A transaction beside the stream's. What is not committed in it is given up."""
        lease = self._begun()
        with self._lock:
            try:
                if self._side is None:
                    number = self._numbers.take()
                    session = self._session(loader_id(self._pipeline, number))
                    self._side = (number, session, Publisher(session, self._catalog, self._made, self._state))
                number, session, publisher = self._side
                if not session.is_open:
                    enter(session, number, self._state, lease)
                session.begin()
                yield session, publisher
                self._state.read(session.written.get(self._state.name, -1))
            except CdcflowError as error:
                self._close_side()
                raise lease.judged(error) from error
            except BaseException:
                self._close_side()
                raise

    def _close_side(self) -> None:
        side, self._side = self._side, None
        if side is not None:
            side[1].close()
            self._numbers.give(side[0])

    def _given_back(self, number: int) -> None:
        with self._lock:
            self._numbers.give(number)

    def _session(self, transactional_id: str) -> Session:
        config = self._config
        return Session(
            self._client,
            self.address,
            transactional_id,
            compression=config.compression,
            timeout_ms=self._timeout_ms,
            message_bytes=config.max_message_bytes or MESSAGE_BYTES,
            batch_bytes=min(_BATCH_BYTES, config.max_message_bytes or _BATCH_BYTES),
            queue_kbytes=QUEUE_KBYTES if transactional_id == applier_id(self._pipeline) else LOADER_QUEUE_KBYTES,
        )

    def _longest_transaction(self) -> int:
        """Return how long the brokers let a transaction be open, in milliseconds."""
        try:
            cluster = self._admin.wait(self._admin.client.describe_cluster(request_timeout=ANSWER_SECONDS))
        except KafkaException as error:
            raise translate(error, at=self.address) from None
        settings = self._topics.settings(ResourceType.BROKER, str(cluster.nodes[0].id)) if cluster.nodes else {}
        return int(settings.get("transaction.max.timeout.ms", LONGEST_TRANSACTION_MS))

    def _begun_applier(self) -> Applier:
        if self._applier is None:
            raise RuntimeError("begin comes before apply, heartbeat and flush")
        return self._applier

    def _begun(self) -> Lease:
        if self._lease is None:
            raise RuntimeError("begin comes before create, clear and loader: they write under the lease")
        return self._lease
