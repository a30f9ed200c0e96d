"""Older servers as source and as target: copied, followed and altered, with values of every kind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import MakeMysqlDatabase
from tests.servers.commands import PipelineFolder
from tests.servers.database import Database
from tests.servers.fleet import Fleet, MysqlLike

Call = Callable[..., subprocess.CompletedProcess[str]]

TABLE = """
CREATE TABLE kinds (
  id int AUTO_INCREMENT PRIMARY KEY, tiny tinyint unsigned, big bigint unsigned, dec_ decimal(20,6), f float, d double,
  bits bit(9), day date, at datetime(6), ts timestamp(3) NULL, span time(2), y year,
  c char(5), v varchar(40) CHARACTER SET latin1, t longtext, bin binary(4), b longblob,
  e enum('one','two','it''s'), s set('a','b','c'), j json, g geometry,
  twice int GENERATED ALWAYS AS (tiny * 2) VIRTUAL, UNIQUE KEY by_v (v, id), KEY by_day (day DESC)
) DEFAULT CHARSET=utf8mb4
"""
ROWS = (
    "INSERT INTO kinds (id, tiny, big, dec_, f, d, bits, day, at, ts, span, y, c, v, t, bin, b, e, s, j, g) VALUES"
    " ({id}, 255, 18446744073709551615, -1234.567891, 0.1, 1e20, b'101010101', '2024-02-29', '1000-01-01 00:00:00.5',"
    " '2030-01-01 12:00:00.125', '-838:59:59', 2155, 'a ', 'é€', concat('🐘', char(92, 9, 10)), 'ab', x'00ff5c0a',"
    " 'it''s', 'a,c', '{{\"a\": [1, 2.5, null]}}', ST_GeomFromText('POINT(1 2)')), ({id} + 1,"
    " NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,"
    " NULL)"
)
SAME = (
    "SELECT id, tiny, big, dec_, f + 0e0, d, hex(bits), day, cast(at AS char), cast(ts AS char), cast(span AS char), y,"
    " c, hex(convert(v USING utf8mb4)), hex(t), hex(bin), hex(b), e, s, json_extract(j, '$.a'), hex(g), twice"
    " FROM kinds ORDER BY id"
)

OLDER = pytest.mark.parametrize(("engine", "version"), [("mysql", "8.0"), ("mariadb", "10.11"), ("mariadb", "10.6")])


def text(rows: Any) -> list[tuple[str, ...]]:
    return [tuple(str(value) for value in row) for row in rows]


def server_of(fleet: Fleet, engine: str, version: str) -> MysqlLike:
    return fleet.mysql(version) if engine == "mysql" else fleet.mariadb(version=version)


@OLDER
def test_an_older_server_is_copied_followed_and_altered(
    engine: str,
    version: str,
    fleet: Fleet,
    new_mysql_database: MakeMysqlDatabase,
    new_pipeline: Callable[..., PipelineFolder],
    cdcflow: Call,
) -> None:
    server = server_of(fleet, engine, version)
    source, target = new_mysql_database(server, "source"), new_mysql_database(server, "target")
    source.execute(TABLE)
    for number in range(1, 41, 2):
        source.execute(ROWS.format(id=number))
    new_pipeline(source, target).write_rules({"match": f"{source.name}.*", "to": f"{target.name}.{{table}}"})
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert text(target.query(SAME)) == text(source.query(SAME))
    source.execute(ROWS.format(id=41))
    source.execute("UPDATE kinds SET t = concat(t, '!'), b = NULL, j = json_set(j, '$.a', 7) WHERE id % 4 = 1")
    source.execute("UPDATE kinds SET id = id + 1000 WHERE id = 3; DELETE FROM kinds WHERE id IN (5, 6)")
    source.execute("ALTER TABLE kinds ADD more int DEFAULT 5, MODIFY c varchar(9); UPDATE kinds SET c = 'longer'")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert text(target.query(SAME)) == text(source.query(SAME))
    assert target.query("SELECT DISTINCT more, c FROM kinds") == [(5, "longer")]


@OLDER
def test_an_older_server_follows_postgres(
    engine: str,
    version: str,
    fleet: Fleet,
    new_mysql_database: MakeMysqlDatabase,
    source_db: Database,
    new_pipeline: Callable[..., PipelineFolder],
    cdcflow: Call,
) -> None:
    target = new_mysql_database(server_of(fleet, engine, version), "target")
    source_db.execute("CREATE TABLE plain (id int PRIMARY KEY, v text DEFAULT 'x', u uuid, j jsonb, at timestamptz)")
    source_db.execute("CREATE INDEX by_at ON plain (at, v)")
    rows = "SELECT n, 'é' || n, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '[1]', '2024-01-01 12:00+01' FROM"
    source_db.execute(f"INSERT INTO plain {rows} generate_series(1, 200) n")
    new_pipeline(source_db, target).write_rules({"match": "public.plain", "to": f"{target.name}.plain"})
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute(f"INSERT INTO plain {rows} generate_series(201, 400) n; UPDATE plain SET v = 'u' WHERE id < 150")
    cdcflow("run", "--until-caught-up", exit_code=0)
    sums = "SELECT count(*), sum(id), sum(CASE v WHEN 'u' THEN 1 ELSE 0 END), min(v), max(at) FROM plain"
    assert text(target.query(sums)) == [("400", "80200", "149", "u", "2024-01-01 11:00:00")]
    indexed = "SELECT count(*) FROM information_schema.statistics WHERE table_schema = database()"
    assert target.value(f"{indexed} AND index_name = 'by_at'") == 2
