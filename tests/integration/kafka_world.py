"""A pipeline from PostgreSQL into Kafka, and what a reader of its topics makes of them."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cdcflow.bus.formats import EXACT, OP, POSITION, TXID, UNCHANGED
from tests.servers.commands import PipelineFolder
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.servers.kafka_topics import Message

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Event:
    """One message of a table's topic: JSON in Debezium's envelope."""

    op: str
    key: dict[str, Any] | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    partition: int
    position: str
    txid: str
    unchanged: tuple[str, ...]
    tombstone: bool


@dataclass(slots=True)
class World:
    """One pipeline's topics."""

    kafka: Kafka
    source: Database
    folder: PipelineFolder
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.name

    def configure(self, **target: Any) -> World:
        """Write the configuration with further keys of the target."""
        self.settings.update(target)
        url = self.settings.pop("url", self.folder.target_url)
        self.folder.target_url = url
        self.folder.write_config(target={"url": url, "partitions": 3, **self.settings})
        return self

    def topic(self, table: str, schema: str = "public") -> str:
        return f"{self.name}.{schema}.{table}"

    def messages(self, table: str, isolation: str = "read_committed") -> list[Message]:
        """Return the messages of a table's topic, in order of partition and offset."""
        return self.kafka.read(self.topic(table), isolation)

    def events(self, table: str, isolation: str = "read_committed") -> list[Event]:
        """Return the events of a table's topic, in order of partition and offset."""
        return [event(message) for message in self.messages(table, isolation)]

    def changes(self, table: str) -> list[Event]:
        """Return the events without tombstones."""
        return [each for each in self.events(table) if not each.tombstone]

    def rows(self, table: str, *key: str) -> list[dict[str, Any]]:
        """Return the rows that a reader of the topic has, in order of their key."""
        held: dict[tuple[Any, ...], dict[str, Any]] = {}
        for each in self.changes(table):
            if each.op == "t":
                held = {at: row for at, row in held.items() if row["\0partition"] != each.partition}
                continue
            image = each.after if each.after is not None else each.before
            assert image is not None
            at = tuple(image[name] for name in key)
            if each.op == "d":
                held.pop(at, None)
                continue
            row = dict(image)
            for name in each.unchanged:
                row[name] = held[at][name]
            held[at] = {**row, "\0partition": each.partition}
        return [{k: v for k, v in held[at].items() if k != "\0partition"} for at in sorted(held)]

    def by_key(self, table: str) -> dict[str, list[Event]]:
        """Return the changes of each key in their order."""
        found: dict[str, list[Event]] = {}
        for each in self.changes(table):
            if each.op != "t":
                found.setdefault(json.dumps(each.key), []).append(each)
        return found


def event(message: Message) -> Event:
    """Return what a message says."""
    headers = {name: (value or b"").decode() for name, value in message.headers}
    assert EXACT not in headers
    value = None if message.value is None else json.loads(message.value)
    key = None if message.key is None else json.loads(message.key)
    return Event(
        headers[OP],
        key,
        None if value is None else value.get("before"),
        None if value is None else value.get("after"),
        message.partition,
        headers[POSITION],
        headers[TXID],
        tuple(json.loads(headers.get(UNCHANGED, "[]"))),
        value is None,
    )


def make_world(kafka: Kafka, source: Database, folder: Path, tables: Sequence[Any] = ("public.*",)) -> World:
    """Return a pipeline of its own name from `source` to `kafka`."""
    name = f"world{os.getpid()}_{next(_numbers)}"
    made = PipelineFolder(folder, name, source.url, kafka.url())
    world = World(kafka, source, made)
    world.configure()
    made.write_rules(*tables)
    return world


def config_of(world: World) -> dict[str, Any]:
    """Return the configuration as it is written."""
    found: dict[str, Any] = yaml.safe_load(world.folder.config.read_text())
    return found


NewWorld = Callable[..., World]
