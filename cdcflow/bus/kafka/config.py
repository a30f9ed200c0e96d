"""What a person may set under `target:` for Kafka."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from cdcflow.bus.config import Encoding
from cdcflow.bus.kafka.connection import Property, Sasl, Tls, client
from cdcflow.model.quantity import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size


def _size(given: object) -> int:
    try:
        return parse_size(given)
    except ValueError as error:
        raise PydanticCustomError("size", "{words}", {"words": str(error)}) from None


def _seconds(given: object) -> float:
    try:
        return parse_duration(given)
    except ValueError as error:
        raise PydanticCustomError("duration", "{words}", {"words": str(error)}) from None


Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"type": ["string", "integer"], "pattern": SIZE_PATTERN + r"|\$\{", "minimum": 0}),
]
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": ["string", "integer"], "pattern": DURATION_PATTERN + r"|\$\{"}),
]

PLACEHOLDERS = ("pipeline", "schema", "table")


class Config(Encoding):
    """The `target:` part of the configuration where its URL says `kafka://`: `bus.config.Encoding`, and how and where
    the messages go."""

    url: str = Field(
        repr=False, description="kafka://user:password@broker:9092,broker2:9092?name=value; the names are librdkafka's."
    )
    topic: str = Field(
        default="{pipeline}.{schema}.{table}",
        description="The topic of a table: {pipeline}, and {schema} and {table} as the rules name them in the target.",
    )
    partitions: int = Field(default=12, ge=1, le=10_000, description="Of topics that are made.")
    replication: int | None = Field(
        default=None, ge=1, le=32_767, description="Replicas of topics that are made; the broker's default if not set."
    )
    retention: Duration | None = Field(
        default=None, description="retention.ms of topics that are made; the broker's default if not set."
    )
    compact: bool = Field(
        default=False, description="Topics that are made are compacted: the last event of each key stays."
    )
    order: Literal["key", "table", "transaction"] = Field(
        default="key",
        description="key: the partition is murmur2 of the key, as of Java clients. table: all rows of a table are in"
        " one partition. transaction: everything is in partition 0 of its topic; with one topic for all tables"
        " in the order of the source's transactions.",
    )
    transactions: bool = Field(
        default=False, description="BEGIN and END events of each transaction in the topic {pipeline}.transaction."
    )
    signals: Literal["events", "marks", "none"] = Field(
        default="events",
        description="How readers are told that a table was emptied or is copied again, and where rows must not overtake"
        " one another. events: op `t` for the first, a mark without key and value for the other. marks: such a mark for"
        " both, for readers that fail at `t`; cdcflow's appliers empty the table all the same. none: nothing, as"
        " Debezium by default, for topics that no applier of cdcflow reads.",
    )
    oversize: Literal["stop"] = Field(
        default="stop", description="What to do with a message that is larger than the topic takes."
    )
    compression: Literal["lz4", "zstd", "snappy", "gzip", "none"] = Field(
        default="lz4", description="How batches of messages are compressed."
    )
    max_message_bytes: Size | None = Field(
        default=None,
        ge=1000,
        json_schema_extra={"default": None},
        description="The largest message; what the topics say (max.message.bytes) if not set.",
    )
    tls: Tls | None = Field(default=None, description="Encryption; {} for the system's certificates.")
    sasl: Sasl | None = Field(default=None, description="Login.")
    properties: dict[str, Property] = Field(
        default_factory=dict,
        repr=False,
        description="Further settings of librdkafka, by their own names; in the query of `url`, too.",
    )

    @field_validator("topic")
    @classmethod
    def _named(cls, given: str) -> str:
        try:
            example = given.format(**dict.fromkeys(PLACEHOLDERS, "x"))
        except (KeyError, IndexError, ValueError):
            words = "may hold {pipeline}, {schema} and {table}, and no other braces"
            raise PydanticCustomError("topic", "{words}", {"words": words}) from None
        if not example or any(not (char.isascii() and (char.isalnum() or char in "._-")) for char in example):
            words = "a topic's name is of letters, digits, '.', '_' and '-'"
            raise PydanticCustomError("topic", "{words}", {"words": words})
        return given

    @property
    def client(self) -> dict[str, Any]:
        """The settings that every client of these brokers needs. Raises ConfigError."""
        return client(self.url, self.tls, self.sasl, self.properties)
