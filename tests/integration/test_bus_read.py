"""`cdcflow read` with an applier's configuration: a look at what a bus brings, which takes it from nobody."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.commands import Commands, Running
from tests.servers.database import Database, same
from tests.servers.kafka_server import Kafka
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.waiting import until


class Ways:
    """A publisher of a table `t`, and an applier behind it."""

    def __init__(self, folder: Path, source: Database, target: Database) -> None:
        self.name = f"looked_{source.name}"[:40]
        self._urls = (source.url, target.url)
        self._sides = []
        for side in ("publish", "apply"):
            (folder / side).mkdir()
            self._sides.append(Commands(folder / side))
        self._folder = folder

    def write(self, published: dict[str, Any], applied: dict[str, Any]) -> None:
        """Set both configurations: how it is written to the bus, and how read from it."""
        ends = {
            "publish": ("", {"url": self._urls[0]}, published),
            "apply": ("_copy", applied, {"url": self._urls[1]}),
        }
        for side, (suffix, source, target) in ends.items():
            settings = {"pipeline": self.name + suffix, "source": source, "target": target}
            settings["tables"] = [{"match": "public.*"}]
            (self._folder / side / "cdcflow.yaml").write_text(yaml.safe_dump(settings))

    def publish(self, *words: str) -> None:
        self._sides[0].call(*(words or ("run", "--until-caught-up")), exit_code=0)

    def apply(self, *words: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        return self._sides[1].call(*(words or ("run", "--until-caught-up")), exit_code=exit_code)

    def look(self, *words: str) -> Running:
        return self._sides[1].start("read", *words)

    def end(self) -> None:
        for side in self._sides:
            side.end()


@pytest.fixture
def ways(tmp_path: Path, source_db: Database, target_db: Database) -> Iterator[Ways]:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')")
    made = Ways(tmp_path, source_db, target_db)
    yield made
    made.end()


def lines(said: str) -> list[tuple[str, Any, Any]]:
    found = [json.loads(line) for line in said.splitlines()]
    assert {line["table"] for line in found} == {"public.t"}
    return [(line["op"], line["key"], line["after"]) for line in found]


ONE = ("insert", {"id": 1}, {"id": 1, "v": "one"})
TWO = ("insert", {"id": 2}, {"id": 2, "v": "two"})


def test_what_topics_hold_is_told_and_stays_for_the_applier(
    ways: Ways, kafka: Kafka, source_db: Database, target_db: Database
) -> None:
    ways.write({"url": kafka.url()}, {"url": kafka.url(), "topics": [f"{ways.name}.*"]})
    ways.publish()
    assert lines(ways.apply("read", "--until-caught-up").stdout) == [ONE]
    source_db.execute("INSERT INTO t VALUES (2, 'two')")
    ways.publish()
    assert lines(ways.apply("read", "--until-caught-up").stdout) == [ONE, TWO]
    ways.apply()
    same(source_db, target_db, "t")


def test_streams_are_read_beside_the_instance_that_applies_them(
    ways: Ways, rabbitmq: RabbitMq, source_db: Database, target_db: Database
) -> None:
    ways.write({"url": rabbitmq.url(), "queue": "stream"}, {"url": rabbitmq.url(), "exchange": ways.name})
    ways.publish()
    ways.apply()
    source_db.execute("INSERT INTO t VALUES (2, 'two')")
    ways.publish()
    before = rabbitmq.queues()
    assert lines(ways.apply("read", "--until-caught-up").stdout) == [ONE, TWO]
    assert rabbitmq.queues() == before
    ways.apply()
    same(source_db, target_db, "t")


def test_of_queues_what_is_published_from_now_on_is_told_and_the_group_is_gone_afterwards(
    ways: Ways, rabbitmq: RabbitMq, source_db: Database, target_db: Database
) -> None:
    ways.write({"url": rabbitmq.url()}, {"url": rabbitmq.url(), "exchange": ways.name})
    ways.publish()
    said = ways.apply("read", "--until-caught-up", exit_code=2).stderr
    assert "cannot be looked at without taking it" in said
    assert "without --until-caught-up" in said
    before = rabbitmq.queues()
    onlooker = ways.look("--limit", "1")
    until(lambda: onlooker.ended or len(rabbitmq.queues()) > len(before), what="the onlooker has a queue")
    onlooker.until_output("made a queue")
    source_db.execute("INSERT INTO t VALUES (2, 'two')")
    ways.publish()
    assert onlooker.wait() == 0, onlooker.output()
    assert lines(onlooker.out()) == [TWO]
    until(lambda: rabbitmq.queues() == before, what="what the onlooker made is gone")
    ways.apply()
    same(source_db, target_db, "t")
