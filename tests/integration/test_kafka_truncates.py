"""Tables that are emptied before an applier knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_pairs import Through, through
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka

Make = Callable[..., Through]


@pytest.fixture
def between(tmp_path: Path, kafka: Kafka, source_db: Database) -> Iterator[Make]:
    """`between(target, partitions=2)`: two pipelines into that target, ended with the test."""
    made: list[Through] = []

    def make(target: Any, **options: Any) -> Through:
        made.append(through(tmp_path, kafka, source_db, target, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.mark.parametrize(("engine", "partitions"), [("", 2), ("", 1), ("mysql_", 2)])
def test_a_table_that_is_emptied_before_its_first_row_is_made_empty(
    request: pytest.FixtureRequest, between: Make, engine: str, partitions: int
) -> None:
    target = request.getfixturevalue(f"{engine}target_db")
    way = between(target, partitions=partitions)
    way.into.write_rules({"match": "public.t", **({"to": f"{target.name}.t"} if engine else {})})
    way.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    way.publish()
    way.source.execute("TRUNCATE t")
    way.publish()
    way.apply()
    assert target.query("SELECT count(*) FROM t") == [(0,)]
    way.source.execute("INSERT INTO t VALUES (1, 2); TRUNCATE t; INSERT INTO t VALUES (3, 4)")
    way.publish()
    way.apply()
    assert list(target.query("SELECT id, v FROM t")) == [(3, 4)]
