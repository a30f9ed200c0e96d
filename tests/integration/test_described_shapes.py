"""Topics of others whose messages tell their table's shape: what the target holds stays, whatever comes late."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.servers.commands import Commands, PipelineFolder
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka

_numbers = itertools.count(1)


class Followed:
    """A topic of Debezium's for the table `public.t`, with two partitions, and the pipeline that reads it."""

    def __init__(self, kafka: Kafka, target: Any, commands: Commands, folder: Path) -> None:
        self.kafka, self.target, self.commands = kafka, target, commands
        prefix = f"described{os.getpid()}_{next(_numbers)}"
        self.topic = kafka.create_topic(f"{prefix}.public.t", 2)
        pipeline = PipelineFolder(folder, prefix, kafka.url(), target.url)
        pipeline.write_config(source={"url": kafka.url(), "topics": [f"{prefix}.*"]})
        pipeline.write_rules("*.*")

    def bring(self, number: int, value: Any, kind: str = "", partition: int = 0) -> None:
        """Write a new row; `kind`: the type of its column `v` in the message's schema, none without."""
        row = {"id": number, "v": value}
        change = {"before": None, "after": row, "source": {"schema": "public", "table": "t"}, "op": "c"}
        said = {"schema": _schema(kind), "payload": change} if kind else change
        self.kafka.produce(self.topic, json.dumps({"id": number}), json.dumps(said), None, partition)

    def run(self) -> None:
        """Apply what the topic holds, as one more run of the pipeline."""
        self.commands.call("run", "--until-caught-up", exit_code=0)

    def rows(self) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.target.query("SELECT id, pg_typeof(v)::text, v::text FROM t ORDER BY id")
        return found


def _schema(kind: str) -> dict[str, Any]:
    fields = [
        {"type": "int32", "optional": False, "field": "id"},
        {"type": kind, "optional": True, "field": "v"},
    ]
    images = [{"type": "struct", "fields": fields, "optional": True, "field": name} for name in ("before", "after")]
    return {"type": "struct", "fields": [*images, {"type": "string", "field": "op"}]}


@pytest.fixture
def followed(kafka: Kafka, target_db: Database, commands: Commands, tmp_path: Path) -> Followed:
    return Followed(kafka, target_db, commands, tmp_path)


def test_rows_of_an_older_type_that_come_behind_a_restart_leave_the_others_as_they_are(followed: Followed) -> None:
    followed.bring(1, 5, "int32")
    followed.bring(2, 5_000_000_000, "int64")
    followed.run()
    followed.bring(3, 6, "int32", partition=1)
    followed.run()
    assert followed.rows() == [(1, "bigint", "5"), (2, "bigint", "5000000000"), (3, "bigint", "6")]
    followed.bring(4, "many", "string")
    followed.run()
    followed.bring(5, 7, "int64", partition=1)
    followed.run()
    wanted = [(1, "5"), (2, "5000000000"), (3, "6"), (4, "many"), (5, "7")]
    assert followed.rows() == [(number, "text", value) for number, value in wanted]


def test_without_schemas_a_whole_number_or_a_null_behind_a_restart_rounds_nothing(followed: Followed) -> None:
    followed.bring(1, 10.5)
    followed.run()
    followed.bring(2, 10)
    followed.run()
    followed.bring(3, None)
    followed.run()
    assert followed.rows() == [(1, "numeric", "10.5"), (2, "numeric", "10"), (3, "numeric", None)]
