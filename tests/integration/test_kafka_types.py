"""Every type of docs/types.md through Kafka into PostgreSQL, in each format: once copied, once streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDatabase
from tests.integration import test_semantics_versions as built_in
from tests.integration.kafka_pairs import Through, through
from tests.integration.mysql_pairs import quoted
from tests.integration.test_mysql_types import canonical, difference, in_postgres, twice
from tests.integration.test_semantics_values import TYPES, VALUES
from tests.servers.database import Database, same
from tests.servers.fleet import PostgresServer
from tests.servers.kafka_server import Kafka
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.registry_server import SchemaRegistry

Make = Callable[..., Through]
FORMATS = ("json", "avro", "protobuf")

EXTENSIONS = """
CREATE EXTENSION hstore; CREATE EXTENSION citext;
CREATE TABLE extended (id int PRIMARY KEY, h hstore, c citext, hs hstore[], cs citext[]);
"""
EXTENDED = """
INSERT INTO extended SELECT n + {first}, h, c, ARRAY[h, NULL], ARRAY[NULL, c] FROM
    (VALUES (1, 'a=>1, "b c"=>NULL, "q\\""=>"{{,}}"'::hstore, 'Ä b'::citext), (2, '', ''), (3, NULL, NULL)) v (n, h, c)
"""


@pytest.fixture
def between(request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka) -> Iterator[Make]:
    """`between(source, target, "avro")`: pipelines with that format on both sides, ended with the test."""
    made: list[Through] = []

    def make(source: Any, target: Any, format_: str, **options: Any) -> Through:
        keys: dict[str, Any] = {"format": format_.partition(" ")[0]}
        if format_ != "json":
            registry: SchemaRegistry = request.getfixturevalue("schema_registry")
            keys["registry"] = {"url": registry.url}
        made.append(through(tmp_path, kafka, source, target, partitions=2, out=keys, into=keys, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


def edges(first: int) -> str:
    """Return the statement that inserts a row for each place in the lists of values: what is at the edge of a type."""
    rows = [
        ", ".join(f"{values[n]}::{name}" if n < len(values) else "NULL" for name, values in VALUES.items())
        for n in range(max(map(len, VALUES.values())) + 1)
    ]
    return "INSERT INTO edges VALUES " + ", ".join(f"({first + n}, {row})" for n, row in enumerate(rows))


@pytest.mark.parametrize("format_", [*FORMATS, "json registered"])
def test_every_type_of_postgresql_arrives(
    between: Make,
    new_server: Callable[..., PostgresServer],
    new_database: MakeDatabase,
    format_: str,
) -> None:
    server = new_server(18, contrib=True)
    source, target = new_database(server, label="source"), new_database(server, label="target")
    way = between(source, target, format_)
    source.execute(built_in.table())
    # Rows that get another key while their large value stays as it is need the whole old row.
    source.execute("ALTER TABLE every REPLICA IDENTITY FULL")
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(VALUES))
    source.execute(f"{TYPES} CREATE TABLE edges (id int PRIMARY KEY, {columns}); {edges(0)}")
    source.execute(EXTENSIONS + EXTENDED.format(first=0))
    way.publish()
    for statement in (*built_in.changes(100), edges(100), EXTENDED.format(first=100)):
        source.execute(statement)
    way.publish()
    way.apply()
    for table in ("every", "edges", "extended"):
        same(source, target, table)
        assert shape(target, table) == shape(source, table)
    assert source.value("SELECT count(*) FROM every") == 5
    first = way.kafka.read(way.topic("public.every"))[0].value
    assert first is not None
    assert (first[0] == 0) == (format_ != "json")


def shape(database: Database, table: str) -> list[tuple[str, str]]:
    """Return a table's columns with their types."""
    return database.query(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
    )


@dataclass(frozen=True, slots=True)
class Piped:
    """The pipelines, as the tests of a direct one have it."""

    way: Through
    source: MysqlDatabase
    target: Database
    engines: tuple[str, str]

    def run(self, exit_code: int | None = 0) -> str:
        """Publish all that was committed, then apply it."""
        self.way.publish()
        return self.way.apply(exit_code or 0)

    def name(self, table: str, schema: str = "") -> str:
        """Return a table's name at the target, for SQL."""
        return f"{quoted(schema or self.source.name)}.{quoted(table)}"


@pytest.mark.parametrize(("flavour", "format_"), [*(("mysql", format_) for format_ in FORMATS), ("mariadb", "avro")])
def test_every_type_of_mysql_arrives_as_from_a_direct_copy(
    request: pytest.FixtureRequest, between: Make, target_db: Database, flavour: str, format_: str
) -> None:
    source: MysqlDatabase = request.getfixturevalue(f"{flavour}_source_db")
    way = between(source, target_db, format_, match=f"{source.name}.*")
    made = Piped(way, source, target_db, (flavour, "postgres"))
    wrong = {}
    for each in twice(made):
        where = made, each.column, each.table, each.name
        wrong[each.column.type] = difference(in_postgres(*where), canonical(*where))
    assert {name: rows for name, rows in wrong.items() if rows} == {}
