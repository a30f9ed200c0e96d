"""What a person may set under `target:` and `source:` for RabbitMQ."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.rabbitmq.address import Address, parse

_URL = (
    "amqp://user:password@host:5672/vhost; amqps:// for TLS, which is verified; ?cacertfile=..&certfile=..&keyfile=.."
    " mean `ca`, `certificate` and `private_key`"
)
# The name stands in front of everything that the pipeline makes, and of one permission pattern.
Name = Annotated[str, Field(min_length=1, max_length=150, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]

_CA = "File with the certificates to trust, for amqps://; the system's if not set."
_CERTIFICATE = "The client's certificate, for mutual TLS."
_KEY = "The client's key, for mutual TLS."


class TargetConfig(Encoding):
    """The `target:` part of the configuration where its URL says `amqp://` or `amqps://`."""

    url: str = Field(repr=False, description=_URL)
    exchange: Name | None = Field(default=None, description="What is published to; the pipeline's name if not set.")
    queue: Literal["quorum", "stream"] = Field(
        default="quorum",
        description="quorum: queues that one applying pipeline each reads and empties. stream: logs that any number of"
        " pipelines read, each exactly once.",
    )
    partitions: int = Field(
        default=1, ge=1, le=256, description="Queues (or streams) that the keys are divided into; fixed once made."
    )
    groups: tuple[Name, ...] = Field(
        default=(),
        description="Quorum queues only: a set of queues for each applying pipeline, named by its `group:`. One set,"
        " named as the exchange, if not set.",
    )
    retention: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]*[YMDhms]$",
        description="Streams that are made keep messages so long (`7D`, `12h`); for ever if not set.",
    )
    tombstones: bool = Field(default=False, description="A message without a value behind each delete: of no use here.")
    ca: str | None = Field(default=None, description=_CA)
    certificate: str | None = Field(default=None, description=_CERTIFICATE)
    private_key: str | None = Field(default=None, repr=False, description=_KEY)

    @property
    def address(self) -> Address:
        """Where the broker is. Raises ConfigError."""
        return parse(self.url, ca=self.ca, certificate=self.certificate, private_key=self.private_key)


class SourceConfig(Decoding):
    """The `source:` part of the configuration where its URL says `amqp://` or `amqps://`."""

    url: str = Field(repr=False, description=_URL)
    exchange: Name | None = Field(default=None, description="What is read from; the pipeline's name if not set.")
    group: Name | None = Field(
        default=None, description="Whose queues are read (see the publisher's `groups:`); the exchange's if not set."
    )
    queue: Literal["quorum", "stream"] | None = Field(
        default=None, description="What the publisher writes to; it says so itself, and this must agree with it."
    )
    start: Literal["first", "next"] = Field(
        default="first", description="Streams only: where a pipeline begins that has read nothing yet."
    )
    prefetch: int = Field(
        default=5000,
        ge=1,
        le=65535,
        description="Messages of a queue that are read ahead of what is durable, and that stay in it while they may"
        " come again.",
    )
    ca: str | None = Field(default=None, description=_CA)
    certificate: str | None = Field(default=None, description=_CERTIFICATE)
    private_key: str | None = Field(default=None, repr=False, description=_KEY)

    @property
    def address(self) -> Address:
        """Where the broker is. Raises ConfigError."""
        return parse(self.url, ca=self.ca, certificate=self.certificate, private_key=self.private_key)
