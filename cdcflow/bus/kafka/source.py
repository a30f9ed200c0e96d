"""Kafka as a source that several instances share: members of one consumer group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, libversion
from confluent_kafka.admin import ConfigResource, ResourceType
from pydantic import Field

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats import Format
from cdcflow.bus.formats.opening import decoding
from cdcflow.bus.kafka import beginnings, check, wishes
from cdcflow.bus.kafka.catalogue import TopicsOfShapes
from cdcflow.bus.kafka.connection import Property, Sasl, Tls, address, client
from cdcflow.bus.kafka.errors import error_of, translate
from cdcflow.bus.kafka.letters import DeadLetters
from cdcflow.bus.kafka.partitions import DEAD_LETTERS, Cluster, of_shapes, of_tables, share_name
from cdcflow.bus.kafka.starts import Starts
from cdcflow.bus.kafka.stream import KafkaStream
from cdcflow.bus.kafka.watch import TopicWatch
from cdcflow.bus.reading import Reading
from cdcflow.bus.shapes import placed
from cdcflow.errors import OperatorError
from cdcflow.model.check import Finding
from cdcflow.model.context import Context
from cdcflow.model.ports import Router
from cdcflow.model.position import Position, Share, Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Table
from cdcflow.model.sharing import Claims

# librdkafka from which on KIP-848 is more than a preview.
_NEW_PROTOCOL: Final = 0x020C0000
_ANSWER_SECONDS: Final = 10.0


class Config(Decoding):
    """A Kafka source."""

    url: str = Field(
        repr=False, description="kafka://user:password@broker:9092,broker2:9092?name=value; the names are librdkafka's."
    )
    topics: list[str] = Field(
        min_length=1, description="Names of the topics to read, with * and ? where several are meant; new ones join."
    )
    schema_topics: list[str] = Field(
        default=[],
        description="Where publishers keep the shapes of their tables; <pipeline>.schema_changes of those that"
        " `topics` name if not set.",
    )
    group: str | None = Field(default=None, description="The consumer group; the pipeline's name if not set.")
    instance: str | None = Field(
        default=None,
        description="This instance's own name in the group (group.instance.id): it gets the same partitions again"
        " when it is back soon.",
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest",
        description="Where a pipeline begins that has read nothing yet; what joins `topics` later is read from its"
        " start.",
    )
    protocol: Literal["auto", "consumer", "classic"] = Field(
        default="auto", description="How the group shares partitions out: KIP-848 where the brokers have it, or before."
    )
    tls: Tls | None = Field(default=None, description="Encryption, where the brokers want it.")
    sasl: Sasl | None = Field(default=None, description="The login, where it is not in the URL.")
    properties: dict[str, Property] = Field(
        default={},
        repr=False,
        description="Further settings of librdkafka, by their own names; in the query of `url`, too.",
    )


def open(config: Config, context: Context) -> KafkaSource:  # noqa: A001
    """Return the source. Nothing is connected before its first use.

    Raises:
        ConfigError: URL, login or a property is wrong.
    """
    return KafkaSource(config, context)


class KafkaSource:
    """A `model.sharing.SharedSource`."""

    engine = "kafka"

    def __init__(self, config: Config, context: Context) -> None:
        self.config, self._context = config, context
        self.address = address(config.url)
        self.group = config.group or context.pipeline
        self.client = client(config.url, config.tls, config.sasl, config.properties)
        self.cluster = Cluster(self.client, self.address)
        self._format: Format | None = None
        self._joined = False
        self.shapes = TopicsOfShapes(self.client, self.cluster, self.schema_topics, self.address)

    @property
    def format(self) -> Format:
        """How messages are read."""
        if self._format is None:
            self._format = decoding(self.config)
        return self._format

    def schema_topics(self) -> list[str]:
        """Return the topics that hold shapes."""
        return self.config.schema_topics or of_shapes(self.config.topics, self.cluster.partitions())

    def topics(self) -> dict[str, int]:
        """Return the topics that are read, with the number of their partitions."""
        there = self.cluster.partitions()
        return {name: there[name] for name in of_tables(self.config.topics, there)}

    def emptied(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], bool | None]:
        """As `beginnings.emptied`."""
        return beginnings.emptied(self.client, self.address, partitions)

    # -- the port

    def check(self, routes: Sequence[Route], refused: Sequence[Table]) -> list[Finding]:
        """As `SharedSource.check`."""
        return check.findings(self, routes, refused)

    def lost(self, recorded: Mapping[str, Share]) -> list[Finding]:
        """As `SharedSource.lost`."""
        return check.lost(self, recorded)

    def tables(self) -> list[Table]:
        """As `SharedSource.tables`."""
        return self.shapes.newest()

    def placed(self, tables: Sequence[Table]) -> list[Table]:
        """As `SharedSource.placed`."""
        return placed(self.shapes, tables)

    def onlooker(self, name: str, *, from_start: bool) -> KafkaSource:
        """As `SharedSource.onlooker`: a group of its own."""
        own = self.config.model_copy(update={"group": name, "start": "earliest" if from_start else "latest"})
        return KafkaSource(own, replace(self._context, pipeline=name))

    def end(self) -> Position:
        """As `SharedSource.end`."""
        topics = self.topics()
        ids = self.cluster.ids(list(topics))
        ends = self.cluster.ends((topic, number) for topic, count in topics.items() for number in range(count))
        return Shares({share_name(*one): Share(0, end, ids.get(one[0], "")) for one, end in ends.items()})

    def join(self, claims: Claims, router: Router, known: Mapping[int, Route]) -> KafkaStream:
        """As `SharedSource.join`."""
        if not self._joined:
            self.format.ready()
            self._joined = True
        watch = TopicWatch(self.cluster, self.config.topics, self.address)
        reading = Reading(
            self.format,
            self.shapes,
            router,
            known,
            flat=self.config.envelope == "flat",
            unreadable=self.config.unreadable,
            where=_where,
        )
        letters = DeadLetters(self.client, self.cluster, self.group + DEAD_LETTERS, self.address)
        starts = Starts(self.cluster, self.config.start, self.topics(), self.emptied, self.address)
        settings = self._consumer_settings()
        return KafkaStream(
            lambda heard: Consumer({**settings, "error_cb": heard}),
            watch,
            starts,
            reading,
            letters,
            claims,
            self.address,
        )

    def request(self, tables: Sequence[str]) -> list[str]:
        """As `SharedSource.request`: the wish goes into the publisher's own topic."""
        return wishes.leave(self, tables)

    def teardown(self) -> list[str]:
        """As `SharedSource.teardown`.

        Raises:
            OperatorError: the group has members.
        """
        try:
            for future in self.cluster.admin.delete_consumer_groups(
                [self.group], request_timeout=_ANSWER_SECONDS
            ).values():
                future.result(_ANSWER_SECONDS)
        except KafkaException as raised:
            error = error_of(raised)
            if error.code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            if error.code() == KafkaError.NON_EMPTY_GROUP:
                raise OperatorError(
                    f'the consumer group "{self.group}" has members',
                    at=self.address,
                    do="stop every instance of the pipeline, then tear it down",
                ) from None
            raise translate(raised, at=self.address, reading=True) from None
        return [f'consumer group "{self.group}"']

    def close(self) -> None:
        """As `SharedSource.close`."""
        self.cluster.close()

    # -- the consumer

    def _consumer_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "queued.max.messages.kbytes": max(1 << 20, self._context.memory_bytes // 32) >> 10,
            # A queue that was full is filled again at once.
            "fetch.queue.backoff.ms": 5,
            # Bytes as they are sent: rows become many times as large when they are unpacked, all of a fetch at once.
            "fetch.message.max.bytes": 1 << 18,
            "fetch.max.bytes": 1 << 20,
            "fetch.wait.max.ms": 100,
            "topic.metadata.refresh.interval.ms": 5000,
            "partition.assignment.strategy": "cooperative-sticky",
            **self.client,
            "group.id": self.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
        if self.config.instance:
            settings["group.instance.id"] = self.config.instance
        if self.protocol() == "consumer":
            settings["group.protocol"] = "consumer"
            del settings["partition.assignment.strategy"]
        return settings

    def protocol(self) -> str:
        """Return how the group shares partitions out: what is set, or what client and brokers are able to do."""
        if self.config.protocol != "auto":
            return self.config.protocol
        if libversion()[1] < _NEW_PROTOCOL:
            return "classic"
        try:
            broker = next(iter(self.cluster.admin.list_topics(timeout=_ANSWER_SECONDS).brokers))
            wanted = ConfigResource(ResourceType.BROKER, str(broker))
            (future,) = self.cluster.admin.describe_configs([wanted], request_timeout=_ANSWER_SECONDS).values()
            entry = future.result(_ANSWER_SECONDS).get("group.coordinator.rebalance.protocols")
        except (KafkaException, StopIteration, TimeoutError):
            return "classic"  # a broker that does not tell has the older one in any case
        return "consumer" if entry is not None and "consumer" in (entry.value or "").split(",") else "classic"


def _where(share: str, place: int) -> str:
    topic, _, partition = share.rpartition("/")
    return f"topic {topic}, partition {partition}, offset {place}"
