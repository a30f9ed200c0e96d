"""Geometries on their way to and from PostGIS: copied, streamed, and over a bus."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_pairs import through
from tests.servers.commands import PipelineFolder
from tests.servers.database import Database
from tests.servers.fleet import Fleet
from tests.servers.kafka_server import Kafka
from tests.servers.mysql_database import MysqlDatabase

pytestmark = [
    pytest.mark.skipif(
        "CDCFLOW_TEST_POSTGIS" not in os.environ,
        reason="PostGIS with its libraries is 400 MB: CDCFLOW_TEST_POSTGIS=1 fetches it",
    ),
    pytest.mark.timeout(600),
]

FORMS = (
    "POINT(1.5 -2.25)",
    "LINESTRING(0 0,1 1,2 4)",
    "POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1))",
    "MULTIPOINT((0 0),(1 1))",
    "MULTILINESTRING((0 0,1 1),(2 2,3 3))",
    "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))",
    "GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))",
    "GEOMETRYCOLLECTION EMPTY",
)
# What MySQL has no words for.
FORMS_OF_POSTGIS = (*FORMS, "POINT EMPTY", "POINT Z (1 2 3)", "LINESTRING ZM (0 0 1 2,1 1 3 4)", "CURVEPOLYGON EMPTY")
READ = "SELECT id, ST_SRID(g), ST_AsText(g), encode(ST_AsEWKB(g), 'hex') FROM {} ORDER BY id"


@pytest.fixture
def spatial(fleet: Fleet) -> Any:
    """A server of PostgreSQL with PostGIS."""
    return fleet.alone(18, postgis=True)


@pytest.fixture
def target(spatial: Any, new_database: Callable[..., Database]) -> Database:
    found = new_database(spatial, label="target")
    found.execute("CREATE EXTENSION postgis")
    return found


@pytest.fixture
def source(spatial: Any, new_database: Callable[..., Database]) -> Database:
    """The extension is in a schema that is in nobody's search path."""
    found = new_database(spatial, label="source")
    found.execute("CREATE SCHEMA gis; CREATE EXTENSION postgis SCHEMA gis")
    found.execute(
        "CREATE TABLE t (id int PRIMARY KEY, g gis.geometry, p gis.geometry(PointZ, 4326), e gis.geography(Point))"
    )
    return found


def of_postgis(source: Database, first: int) -> None:
    """Insert a row for each form."""
    for number, form in enumerate(FORMS_OF_POSTGIS):
        source.execute(
            f"SET search_path = public, gis; INSERT INTO t VALUES ({first + number},"
            f" 'SRID={4326 * (number % 2)};{form}', 'SRID=4326;POINT Z (5 6 {number})', 'POINT(10.5 {number})')"
        )
    source.execute(f"INSERT INTO t VALUES ({first + 90})")


def changed(source: Database) -> None:
    source.execute("SET search_path = public, gis; UPDATE t SET g = ST_SetSRID(ST_MakePoint(id, 1), 3857) WHERE id = 3")
    source.execute("DELETE FROM t WHERE id = 2")


def every(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT id, g::text, p::text, e::text FROM t ORDER BY id")


def test_postgis_to_postgis(
    source: Database, target: Database, pipeline_dir: PipelineFolder, cdcflow: Callable[..., Any]
) -> None:
    pipeline_dir.through(source=source.url, target=target.url)
    pipeline_dir.write_rules("public.t")
    source.execute("CREATE INDEX ON t USING gist (g)")
    of_postgis(source, 0)
    # The extension stands in `public` there, and it is one that cannot be moved.
    (found,) = (
        each
        for each in json.loads(cdcflow("check", "--json", exit_code=3).stdout)["findings"]
        if each["level"] == "blocker"
    )
    remedy = found["do"].partition(" (")[0]
    assert remedy == 'DROP EXTENSION "postgis"; CREATE EXTENSION "postgis" SCHEMA "gis"'
    target.execute(f"CREATE SCHEMA gis; {remedy}")
    cdcflow("run", "--until-caught-up", exit_code=0)
    of_postgis(source, 100)
    changed(source)
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert every(target) == every(source)
    assert len(every(source)) == 2 * (len(FORMS_OF_POSTGIS) + 1) - 1
    types = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 1"
    assert target.query(types) == [
        ("gis.geometry",),
        ("gis.geometry(PointZ,4326)",),
        ("gis.geography(Point,4326)",),
    ]
    assert target.value("SELECT count(*) FROM pg_indexes WHERE tablename = 't' AND indexdef LIKE '%USING gist%'") == 1


@pytest.mark.parametrize("format_", ["json", "avro", "protobuf"])
def test_postgis_over_kafka_to_postgis(
    source: Database, target: Database, kafka: Kafka, schema_registry: Any, tmp_path: Path, format_: str
) -> None:
    keys = {"format": format_, **({} if format_ == "json" else {"registry": {"url": schema_registry.url}})}
    way = through(tmp_path, kafka, source, target, out=keys, into=keys)
    try:
        target.execute("CREATE SCHEMA gis; DROP EXTENSION postgis; CREATE EXTENSION postgis SCHEMA gis")
        of_postgis(source, 0)
        way.publish()
        of_postgis(source, 100)
        changed(source)
        way.publish()
        way.apply()
        assert every(target) == every(source)
    finally:
        way.end()


def of_mysql(source: MysqlDatabase, first: int) -> None:
    for number, form in enumerate(FORMS):
        for srid in (0, 4326):
            key = first + number + 50 * (srid > 0)
            source.execute(
                f"INSERT INTO t VALUES ({key}, ST_GeomFromText('{form}', {srid}, 'axis-order=long-lat'),"
                f" ST_GeomFromText('POINT({number} 7)'))"
            )
    source.execute(f"INSERT INTO t VALUES ({first + 40}, NULL, NULL)")


def same_forms(source: MysqlDatabase, target: Database, schema: str) -> None:
    """Compare both columns by what the servers say that they hold."""
    for column in ("g", "p"):
        here = source.query(
            f"SELECT id, ST_SRID({column}), ST_AsText({column}, 'axis-order=long-lat') FROM t ORDER BY id"
        )
        there = target.query(f'SELECT id, ST_SRID({column}), ST_AsText({column}) FROM "{schema}".t ORDER BY id')
        assert there == here
        assert len(here) == 2 * (2 * len(FORMS) + 1)
    types = (
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '\"{schema}\".t'::regclass AND attnum > 1"
    )
    assert target.query(types) == [("geometry",), ("geometry",)]


@pytest.fixture
def mysql(mysql_source: Any, new_mysql_database: Callable[..., MysqlDatabase]) -> MysqlDatabase:
    found = new_mysql_database(mysql_source, label="source")
    found.execute("CREATE TABLE t (id int PRIMARY KEY, g geometry, p point)")
    return found


def test_mysql_to_postgis(
    mysql: MysqlDatabase, target: Database, pipeline_dir: PipelineFolder, cdcflow: Callable[..., Any]
) -> None:
    pipeline_dir.through(source=mysql.url, target=target.url)
    pipeline_dir.write_rules(f"{mysql.name}.t")
    of_mysql(mysql, 0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    of_mysql(mysql, 100)
    cdcflow("run", "--until-caught-up", exit_code=0)
    same_forms(mysql, target, mysql.name)


def test_mysql_over_kafka_to_postgis(mysql: MysqlDatabase, target: Database, kafka: Kafka, tmp_path: Path) -> None:
    way = through(tmp_path, kafka, mysql, target, match=f"{mysql.name}.*")
    try:
        of_mysql(mysql, 0)
        way.publish()
        of_mysql(mysql, 100)
        way.publish()
        way.apply()
        same_forms(mysql, target, mysql.name)
    finally:
        way.end()


def test_postgis_to_mysql_and_a_third_dimension_is_refused(
    source: Database,
    mysql_source: Any,
    new_mysql_database: Callable[..., MysqlDatabase],
    new_pipeline: Any,
    cdcflow: Any,
) -> None:
    there = new_mysql_database(mysql_source, label="target")
    new_pipeline(source, there).write_rules(
        {"match": "public.t", "to": f"{there.name}.t", "columns": {"exclude": ["p"]}}
    )

    def insert(first: int) -> None:
        for number, form in enumerate(FORMS):
            source.execute(
                f"SET search_path = public, gis; INSERT INTO t VALUES ({first + number},"
                f" 'SRID={4326 * (number % 2)};{form}', NULL, 'POINT(10.5 {number})')"
            )

    insert(0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    insert(100)
    cdcflow("run", "--until-caught-up", exit_code=0)
    for column in ("g", "e"):
        text = f"gis.ST_AsText({column}), gis.ST_SRID({column}::gis.geometry)"
        here = source.query(f"SELECT id, {text} FROM t ORDER BY id")
        read = f"SELECT id, ST_AsText({column}, 'axis-order=long-lat'), ST_SRID({column}) FROM t ORDER BY id"
        assert there.query(read) == here
        assert len(here) == 2 * len(FORMS)
    source.execute("SET search_path = public, gis; INSERT INTO t VALUES (200, 'POINT Z (1 2 3)')")
    done = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "public.t" in done.stderr + done.stdout
    assert "200" in done.stderr + done.stdout
