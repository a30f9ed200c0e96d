"""The shortest configuration of a publisher: a source and a bus, whose URL holds settings of the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.commands import Commands
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.servers.rabbitmq_server import RabbitMq


class Bare:
    """A configuration without rules."""

    def __init__(self, folder: Path, source: Database) -> None:
        self.commands, self._file, self._source = Commands(folder), folder / "cdcflow.yaml", source
        self.name = f"bare_{source.name}"[:40]

    def call(self, target: dict[str, Any], *arguments: str, exit_code: int = 0) -> str:
        """Run a command with that target; return what it said."""
        settings = {"pipeline": self.name, "source": {"url": self._source.url}, "target": target}
        self._file.write_text(yaml.safe_dump(settings))
        done = self.commands.call(*arguments, exit_code=exit_code)
        return " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def bare(tmp_path: Path, source_db: Database) -> Iterator[Bare]:
    source_db.execute(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA s; CREATE TABLE s.u (id int PRIMARY KEY);"
        "INSERT INTO t VALUES (1); INSERT INTO s.u VALUES (2)"
    )
    made = Bare(tmp_path, source_db)
    yield made
    made.commands.end()


def test_every_table_is_published_to_kafka(bare: Bare, kafka: Kafka) -> None:
    url = f"{kafka.url()}?linger.ms=1&client.id=shop"
    target = {"url": url, "topic": "{pipeline}.{schema}.{table}", "partitions": 2}
    said = bare.call(target, "check")
    assert "none are given: every table of the source is published (2 now)" in said
    assert "no rules are given: every table of the source is published" in bare.call(target, "run", "--until-caught-up")
    for table, key in (("public.t", b'{"id":1}'), ("s.u", b'{"id":2}')):
        assert [message.key for message in kafka.read(f"{bare.name}.{table}")] == [key]
    said = bare.call(target | {"url": f"{url}&acks=0"}, "run", exit_code=2)
    assert "the property acks cannot be set" in said
    said = bare.call(target | {"url": f"{url}&sasl.mechanizm=hunter"}, "run", exit_code=2)
    assert 'No such configuration property: "sasl.mechanizm"' in said
    assert "hunter" not in said
    said = bare.call(target | {"properties": {"linger.ms": 5}}, "check", exit_code=2)
    assert "the property linger.ms is in the URL and under `properties:`" in said


def test_every_table_is_published_to_rabbitmq(bare: Bare, rabbitmq: RabbitMq) -> None:
    target = {"url": rabbitmq.url()}
    assert "every table of the source is published (2 now)" in bare.call(target, "check")
    bare.call(target, "run", "--until-caught-up")
    assert "has no parameter heartbeat" in bare.call(
        target | {"url": f"{rabbitmq.url()}?heartbeat=5"}, "run", exit_code=2
    )
    assert any(queue.startswith(bare.name) for queue in rabbitmq.queues())
    bare.call(target, "teardown", "--yes")
