"""RabbitMQ as a target: every change is a message to an exchange, confirmed before the checkpoint moves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from cdcflow.bus import registry_check
from cdcflow.bus.formats import Stamp
from cdcflow.bus.formats.opening import open_format
from cdcflow.bus.formats.wire import fingerprint, wire_shape
from cdcflow.bus.rabbitmq import check as checks
from cdcflow.bus.rabbitmq.config import TargetConfig as Config
from cdcflow.bus.rabbitmq.lanes import Lanes, Numbering, topic_of
from cdcflow.bus.rabbitmq.layout import Layout, routing_key
from cdcflow.bus.rabbitmq.loader import ChunkLoader
from cdcflow.bus.rabbitmq.publisher import Publisher
from cdcflow.errors import ConfigError, SchemaStop
from cdcflow.model.change import ChangeBatch, Receipt, Rows, SchemaChange, Step, Truncate
from cdcflow.model.check import Finding
from cdcflow.model.context import Context
from cdcflow.model.ports import Capabilities
from cdcflow.model.position import Position
from cdcflow.model.route import Mode, OnTruncate, Route, SchemaChanges
from cdcflow.model.schema import TableName
from cdcflow.ops.faults import moment
from cdcflow.ops.logs import get_logger

log = get_logger(__name__)

__all__ = ["Config", "RabbitTarget", "open"]

_CONTENT_TYPES: Final = {"json": b"application/json", "avro": b"avro/binary", "protobuf": b"application/x-protobuf"}


class RabbitTarget:
    """Implements `model.ports.Target`. Connects in `begin`.

    It holds no state: who opens it saves the checkpoint, and what was published since is published again after a crash
    (see docs/adr/0010 for how readers know it).
    """

    capabilities = Capabilities(transactional=False, holds_state=False, ddl_in_transaction=False, schema_changes=True)

    def __init__(self, config: Config, layout: Layout, pipeline: str, content_type: bytes) -> None:
        """Raises ConfigError where a key that the format needs is missing."""
        address = config.address
        self._config, self._address, self._layout, self._pipeline = config, address, layout, pipeline
        self.address = address.text
        self._format, self._content_type = open_format(config, pipeline), content_type
        self._publisher = Publisher(address, layout, pipeline)
        self._lanes = Lanes(self._publisher, self._format, content_type)
        self._numbering = Numbering()
        self._truncations: Counter[TableName] = Counter()  # within the transaction at `_truncated_in`
        self._truncated_in = ""
        self._whole = True
        self._begun = False
        self._durable: Position | None = None

    def check(self, routes: Sequence[Route]) -> list[Finding]:
        topics = [(topic_of(self._layout, route), route) for route in routes]
        return [
            *checks.target(self._address, self._layout, routes),
            *registry_check.findings(self._config, topics, self._pipeline),
        ]

    def identity(self) -> dict[str, str]:
        """No source is this target."""
        return {}

    def holds(self, route: Route) -> bool:
        """What an exchange was given cannot be asked for."""
        return False

    def create(self, route: Route) -> None:
        """Raises ConfigError where the table's name cannot be a routing key. Queues are made by `begin`."""
        routing_key(route.target, self._layout.partitions - 1)

    def clear(self, route: Route, before: Route) -> None:
        """Tell the readers that the table is empty, before it comes anew."""
        # The stream may not repeat what is before this.
        self._publisher.complete(str(route.target))
        if route.on_truncate is OnTruncate.TRUNCATE and route.mode is Mode.MIRROR:
            Lanes(self._publisher, self._format, self._content_type).clear(route, time.time_ns())
            self._publisher.settle()

    def finish(self, routes: Sequence[Route]) -> None:
        """There are no indexes."""

    def adapt(self, routes: Sequence[Route]) -> bool:
        """There are no types."""
        return False

    def loader(self) -> ChunkLoader:
        return ChunkLoader(self._publisher, Lanes(self._publisher, self._format, self._content_type))

    def begin(self, pipeline: str, epoch: int) -> None:
        if not self._begun:
            self._format.ready()
            self._begun = True
        self._publisher.open()
        self._lanes = Lanes(self._publisher, self._format, self._content_type)
        self._numbering.reset()
        self._whole = True

    def apply(self, batch: ChangeBatch) -> Receipt:
        """Publish a batch; it is durable, on a majority of the nodes that have the queues, when this returns.

        Raises:
            TargetUnavailable: the broker is away, or takes nothing for now.
            OperatorError: no queue is bound, or the broker refuses a message.
            SchemaStop: the shape of a table changed and the rules, or the registry, say stop.
            RowRejected: a value cannot be written.
        """
        if self._whole:  # the checkpoint of what came before is saved by now
            self._publisher.seal()
        self._numbering.batch(batch)
        for step in batch.steps:
            self._step(step)
        self._whole = batch.complete
        if not batch.complete:
            moment("piece written")
            return Receipt(None, durable=False)
        moment("batch sent")
        self._publisher.settle()
        moment("batch committed")
        self._durable = batch.end
        return Receipt(batch.end, durable=True)

    def heartbeat(self, position: Position) -> Receipt:
        """Readers are told that nothing will be repeated: the checkpoint of what came before is saved by now."""
        if self._whole:
            self._publisher.seal()
        self._publisher.tell_sealed()
        self._publisher.settle()
        self._durable = position
        return Receipt(position, durable=True)

    def flush(self, *, force: bool) -> Position | None:
        return self._durable

    def close(self) -> None:
        self._publisher.farewell()
        self._publisher.close()

    def _step(self, step: Step) -> None:
        if isinstance(step, Rows):
            self._lanes.rows(step, self._numbering.spread(step), self._numbering.wired)
        elif isinstance(step, Truncate):
            for route in step.routes:
                if route.on_truncate is OnTruncate.TRUNCATE and route.mode is Mode.MIRROR:
                    stamp = self._numbering.here()
                    self._lanes.truncate(route, stamp, self._ordinal(route, stamp))
        elif isinstance(step, SchemaChange):
            self._follow(step.old, step.new)

    def _ordinal(self, route: Route, stamp: Stamp) -> int:
        """Return the number of a message to all partitions among those of the table in this transaction."""
        if not stamp.position:
            return time.time_ns()
        if self._truncated_in != stamp.position:
            self._truncated_in = stamp.position
            self._truncations.clear()
        self._truncations[route.target] += 1
        return self._truncations[route.target]

    def _follow(self, old: Route, new: Route) -> None:
        if new.schema_changes is SchemaChanges.IGNORE:
            return
        if new.schema_changes is SchemaChanges.STOP:
            if _told(old) == _told(new):
                return
            raise SchemaStop(
                f"the shape of table {new.source.name} changed",
                at=self.address,
                why="the rules say `schema_changes: stop` for it",
                do=f"cdcflow resync {new.source.name} publishes the table again as the source has it now",
            )
        if old.target != new.target:
            raise SchemaStop(
                f"table {old.source.name} is now called {new.source.name}, and its rows would go elsewhere",
                at=self.address,
                why=f"the changes so far went to {old.target}, the next would go to {new.target}",
                do=f"route {new.source.name} with `to: {old.target}` in the rules to go on, or exclude it",
            )
        log.info("rows have another shape from here on", source=str(new.source.name))
        self._lanes.forget(new.source.id)
        self._lanes.lane(new)
        if new.source.gives_names_away(old.source):
            # No row that has a name from before may be applied after one that has it for another column.
            stamp = self._numbering.here()
            self._lanes.part(new, stamp, self._ordinal(new, stamp))


def open(config: Config, context: Context) -> RabbitTarget:  # noqa: A001 - the registry's word
    """Return the target. Connects to nothing yet.

    Raises:
        ConfigError: keys that do not go together.
    """
    if config.groups and config.queue == "stream":
        raise ConfigError("streams have no groups", do="leave `groups:` out: any number of pipelines reads a stream")
    exchange = config.exchange or context.pipeline
    layout = Layout(exchange, config.queue, config.partitions, config.groups, config.retention)
    content_type = _CONTENT_TYPES[config.format]
    if config.envelope == "cloudevents" and config.mode == "structured":
        content_type = b"application/cloudevents+" + config.format.encode()
    return RabbitTarget(config, layout, context.pipeline, content_type)


def _told(route: Route) -> str:
    """Return the fingerprint of what readers are told of the table."""
    return fingerprint(wire_shape(route, tuple(column.name for column, _ in route.columns)))
