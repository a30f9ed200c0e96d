"""The keys that every broker's `source:` and `target:` have: format, envelope, registry, topics."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Registry(BaseModel):
    """A schema registry that speaks the Confluent API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False, description="http://registry:8081; user:password@ for basic authentication")
    token: str | None = Field(default=None, repr=False, description="A bearer token, instead of user and password.")
    ca: str | None = Field(default=None, description="File with the certificates to trust, for https://.")
    certificate: str | None = Field(default=None, description="The client's certificate, for mutual TLS.")
    private_key: str | None = Field(default=None, repr=False, description="The client's key, for mutual TLS.")
    subjects: Literal["topic", "record", "topic_record"] = Field(
        default="topic", description="How subjects are named: TopicName, RecordName or TopicRecordName strategy."
    )
    compatibility: (
        Literal["NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"]
        | None
    ) = Field(default=None, description="Set on subjects that are made; left as it is when not given.")
    incompatible: Literal["stop", "new_subject"] = Field(
        default="stop",
        description="What to do where the registry refuses a changed schema: stop before the first message of it, or"
        " go on under a new subject (`<subject>-v2`, ...).",
    )


class Encoding(BaseModel):
    """How rows are written as messages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["json", "avro", "protobuf"] = Field(default="json", description="What values are written as.")
    envelope: Literal["debezium", "flat", "cloudevents"] = Field(
        default="debezium", description="What stands around a row: Debezium's envelope, the row alone, a CloudEvent."
    )
    mode: Literal["structured", "binary"] = Field(
        default="structured", description="CloudEvents only: attributes beside the data, or in headers."
    )
    schemas: bool = Field(default=False, description="JSON only: each message carries its schema, as Connect does.")
    decimals: Literal["string", "number"] = Field(
        default="string", description="Decimals as text, or as numbers (JSON: digits; Avro: the decimal type)."
    )
    temporals: Literal["debezium", "iso"] = Field(
        default="debezium", description="JSON only: dates and times as Debezium's numbers, or as ISO 8601 text."
    )
    tombstones: bool = Field(default=True, description="A message without a value behind each delete, for compaction.")
    registry: Registry | None = Field(
        default=None,
        description="Needed for avro and protobuf. With json, keys and values are as Confluent's JSON Schema serializer"
        " writes them: behind the number of their registered schema.",
    )

    @field_validator("registry")
    @classmethod
    def _once(cls, given: Registry | None, info: ValidationInfo) -> Registry | None:
        if given is not None and info.data.get("schemas"):
            words = "and `schemas: true` exclude each other: schemas are in the registry, or in each message"
            raise PydanticCustomError("registry", "{words}", {"words": words})
        return given


class Decoding(BaseModel):
    """How messages are read as rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["json", "avro", "protobuf"] = Field(default="json", description="What values are written as.")
    envelope: Literal["debezium", "flat", "cloudevents"] = Field(
        default="debezium", description="What stands around a row."
    )
    registry: Registry | None = Field(
        default=None,
        description="Needed for avro and protobuf, and for json that was written with one; plain JSON is read all the"
        " same.",
    )
    unreadable: Literal["stop", "dead_letter"] = Field(
        default="stop", description="What to do with a message that cannot be read."
    )
