"""The schema registry is away, for those who publish and for those who apply: at the start, and in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_pairs import Through, through
from tests.servers.commands import Running
from tests.servers.database import Database, same
from tests.servers.kafka_server import Kafka
from tests.servers.proxy import Proxy
from tests.servers.registry_server import SchemaRegistry
from tests.servers.waiting import until

AWAY = "the schema registry cannot be reached"


@pytest.fixture
def registry(proxy: Callable[..., Proxy], schema_registry: SchemaRegistry) -> Proxy:
    """The way to the registry, for the side that shall lose it."""
    return proxy(schema_registry)


@pytest.fixture
def between(
    tmp_path: Path, kafka: Kafka, schema_registry: SchemaRegistry, source_db: Database, target_db: Database
) -> Iterator[Callable[..., Through]]:
    """`between("avro", out=proxy, into=proxy)`: who reaches the registry through a proxy.

    The table has no key: what is applied twice is there twice.
    """
    made: list[Through] = []

    def make(format_: str, **through_proxy: Proxy) -> Through:
        def keys(side: str) -> dict[str, Any]:
            way = through_proxy.get(side)
            url = way.through(schema_registry.url) if way is not None else schema_registry.url
            return {"format": format_, "registry": {"url": url}}

        made.append(through(tmp_path, kafka, source_db, target_db, partitions=1, out=keys("out"), into=keys("into")))
        source_db.execute(
            "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'copied')"
        )
        return made[-1]

    yield make
    for one in made:
        one.end()


def equal(way: Through, *processes: Running, tables: tuple[str, ...] = ("t",)) -> None:
    """Wait until the target has what the source has, each row once; fail at once where a process has ended."""

    def reached() -> bool:
        if not any(process.ended for process in processes):
            for table in tables:
                same(way.source, way.target, table)
        return True

    until(reached, limit=90, what="the target equals the source")
    for process in processes:
        assert not process.ended, process.log()


def ended(*processes: Running) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        assert process.wait() == 0, process.log()


def test_at_the_start_it_is_waited_for_and_without_it_both_end_with_75(
    between: Callable[..., Through], registry: Proxy
) -> None:
    way = between("avro", out=registry, into=registry)
    registry.refuse()
    publisher = way.publishing.start("run")
    publisher.until_output(AWAY)
    assert way.topic("public.t") not in way.kafka.topics()
    registry.passing()
    begun = publisher, way.instance()
    equal(way, *begun)
    ended(*begun)

    way.source.execute("INSERT INTO t VALUES (2, 'later')")
    registry.refuse()
    begun = way.publishing.start("run"), way.instance()
    for process in begun:
        assert process.wait(120) == 75, process.log()
        assert f"error: {AWAY}" in process.log()
        assert f"at:   schema registry http://127.0.0.1:{registry.port}" in process.log()
    assert len(way.kafka.read(way.topic("public.t"))) == 1
    assert way.target.query("SELECT id FROM t") == [(1,)]
    registry.passing()
    way.publish()
    way.apply()
    same(way.source, way.target, "t")


@pytest.mark.parametrize(("format_", "how"), [("avro", Proxy.refuse), ("protobuf", Proxy.hang)])
def test_a_publisher_with_new_shapes_and_tables_waits_and_loses_nothing(
    between: Callable[..., Through], registry: Proxy, format_: str, how: Callable[[Proxy], None]
) -> None:
    way = between(format_, out=registry)
    publisher, applier = way.publishing.start("run"), way.instance()
    equal(way, publisher, applier)
    how(registry)
    way.source.execute("INSERT INTO t VALUES (2, 'known shape')")
    equal(way, publisher, applier)
    way.source.execute("ALTER TABLE t ADD n numeric(9,2); INSERT INTO t VALUES (3, 'new shape', 1.50)")
    way.source.execute("CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'new table')")
    publisher.until_output(AWAY, 60)
    way.source.execute("INSERT INTO t SELECT n, 'behind', n FROM generate_series(4, 500) n")
    way.source.execute("INSERT INTO u VALUES (2, 'behind')")
    assert len(way.kafka.read(way.topic("public.t"))) == 2
    registry.passing()
    equal(way, publisher, applier, tables=("t", "u"))
    ended(publisher, applier)
    assert len(way.kafka.read(way.topic("public.t"))) == 500
    assert len(way.kafka.read(way.topic("public.u"))) == 2


@pytest.mark.parametrize("format_", ["avro", "protobuf"])
def test_an_applier_that_meets_a_new_schema_waits_and_applies_each_row_once(
    between: Callable[..., Through], registry: Proxy, format_: str
) -> None:
    way = between(format_, into=registry)
    publisher, applier = way.publishing.start("run"), way.instance()
    equal(way, publisher, applier)
    registry.refuse()
    way.source.execute("INSERT INTO t VALUES (2, 'known schema')")
    equal(way, publisher, applier)
    way.source.execute("INSERT INTO t VALUES (3, 'before'); ALTER TABLE t ADD n numeric(9,2)")
    way.source.execute("INSERT INTO t SELECT n, 'new schema', n FROM generate_series(4, 500) n")
    applier.until_output(AWAY, 60)
    until(lambda: len(way.kafka.read(way.topic("public.t"))) == 500, what="the rows are published")
    until(lambda: (3,) in way.target.query("SELECT id FROM t"), what="what is before the new schema is applied")
    assert way.target.value("SELECT max(id) FROM t") == 3
    registry.passing()
    equal(way, publisher, applier)
    ended(publisher, applier)
