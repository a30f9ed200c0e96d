"""Values arrive as they are: copied, inserted one by one and in large batches, updated, and found as old rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.semantics import Case, Pair, follow_large, follow_small, pair
from tests.servers.fleet import PostgresServer

# type: values of it, as SQL
VALUES: dict[str, list[str]] = {
    "numeric": ["'NaN'", "'Infinity'", "'-Infinity'", "1.10", "'-0.000'", "1e-16383", "repeat('7', 100000)::numeric"],
    "numeric(7,3)": ["1234.567", "'NaN'", "'-0.001'"],
    "float8": ["'NaN'", "'-Infinity'", "'-0'", "1e-308", "0.1", "1.7976931348623157e308"],
    "float4": ["'Infinity'", "3.4028235e38", "1e-45"],
    "date": ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"],
    "timestamp": ["'infinity'", "'0044-03-15 12:00 BC'", "'294276-12-31 23:59:59.999999'"],
    "timestamptz": ["'-infinity'", "'0044-03-15 12:00+00 BC'", "'2024-07-01 12:00:00.000001+05:30'"],
    "timetz": ["'24:00:00-15:59:59'", "'10:00+00'"],
    "interval": ["'1 year -2 mons 3 days -04:05:06.7'", "'-178000000 years'", "'0'"],
    "text": [
        "''",
        "E'\\\\\\\\ \\t\\n\\r \\\\.'",
        "'N'",
        "E'\\\\\\\\N'",
        "'{}'",
        "'%s :name $1'",
        "U&'\\+01F600 \\00E9'",
        "repeat('é', 5000)",
    ],
    "char(5)": ["'ab'", "''"],
    '"char"': ["'a'", "''"],
    "bytea": ["''", "'\\x00ff5c0a'", "decode(repeat('00ff', 5000), 'hex')"],
    "bool": ["true", "false"],
    "uuid": ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    "int8": ["9223372036854775807", "'-9223372036854775808'"],
    "money": ["12.34"],
    "json": ['\'{"b": 1,  "a":"\\\\u0041\\\\n"}\'', "'null'"],
    "jsonb": ['\'{"b": 1,  "a":[1.0, null]}\'', "'null'"],
    "int[]": ["'{}'", "'{1,NULL,3}'", "'[0:1]={1,2}'", "'[-2:-1][3:4]={{1,2},{3,NULL}}'"],
    "text[]": ['\'{"NULL",NULL,"a\\"b","\\\\\\\\",""," ,{}"}\''],
    "int4range": ["'empty'", "'[1,5)'", "'(,)'"],
    "tstzrange": ["'[2024-01-01 00:00+00,infinity]'", "'(,2024-01-01 00:00+00)'"],
    "nummultirange": ["'{[1.0,2.50),(7,)}'", "'{}'"],
    "inet": ["'::1/64'", "'10.0.0.1'"],
    "cidr": ["'10.0.0.0/8'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "bit(4)": ["'1010'"],
    "varbit": ["''", "'10101'"],
    "point": ["'(1.5,-0)'"],
    "polygon": ["'((0,0),(1,1),(2,0))'"],
    "tsvector": ["'''a b'':1A c:2'::tsvector"],
    "tsquery": ["'a & !b'"],
    "pg_lsn": ["'16/B374D848'"],
    "one.mood": ["'sad'", "'o''k'"],
    "two.mood": ["'other'"],
    "one.mood[]": ["'{sad,NULL}'"],
    "one.positive": ["5"],
    "one.place": ["ROW('a \"b\" (c),', NULL, '{1,2}')", "ROW('', 'sad', NULL)", "NULL"],
    "one.spans": ["'[1.5,2.5]'"],
    "one.emails": ["'{a@b,c@d}'"],
}

TYPES = (
    "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TYPE one.mood AS ENUM ('sad', 'o''k'); CREATE TYPE two.mood AS ENUM ('other');"
    " CREATE DOMAIN one.positive AS int CHECK (VALUE > 0); CREATE TYPE one.place AS (name text, feel one.mood, codes int[]);"
    " CREATE TYPE one.spans AS RANGE (subtype = float8); CREATE DOMAIN one.emails AS text[];"
)


def value_cases() -> dict[str, Case]:
    """A table for each type: with a key, and without one under a full identity."""
    made = {}
    for number, (type_name, values) in enumerate(VALUES.items()):
        keyed, keyless = f"v{number}", f"w{number}"
        rows = [f"({place}, {value}::{type_name})" for place, value in enumerate([*values, "NULL"], 1)]
        again = [f"({place + 100}, {value}::{type_name})" for place, value in enumerate([*values, "NULL"], 1)]
        made[type_name] = Case(
            (TYPES if not number else "")
            + f" CREATE TABLE {keyed} (id int PRIMARY KEY, v {type_name}); INSERT INTO {keyed} VALUES {', '.join(rows)};"
            f" CREATE TABLE {keyless} (id int, v {type_name}); ALTER TABLE {keyless} REPLICA IDENTITY FULL;"
            f" INSERT INTO {keyless} VALUES {', '.join(rows)};",
            (
                f"INSERT INTO {keyed} VALUES {', '.join(again)}; INSERT INTO {keyless} VALUES {', '.join(again)};"
                f" UPDATE {keyed} SET v = (SELECT v FROM {keyed} WHERE id = 1) WHERE id = {100 + len(rows)};"
                f" UPDATE {keyed} SET v = NULL WHERE id = 1; UPDATE {keyless} SET id = id + 1000 WHERE id < 100;"
                f" DELETE FROM {keyless} WHERE id > 100 AND id % 2 = 0",
            ),
            (keyed, keyless),
        )
    return made


CASES = value_cases()


@pytest.fixture(scope="module", params=["in small batches", "in a large batch"])
def followed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pg_source: PostgresServer,
    pg_target: PostgresServer,
) -> Iterator[Pair]:
    """All types, followed either way."""
    with pair(tmp_path_factory.mktemp("values"), pg_source, pg_target) as made:
        follow = follow_small if request.param == "in small batches" else follow_large
        follow(made, list(CASES.values()))
        yield made


@pytest.mark.parametrize("type_name", CASES)
def test_values_of_every_type_are_copied_and_followed(followed: Pair, type_name: str) -> None:
    followed.same(*CASES[type_name].tables)


def test_values_of_20_megabytes_are_copied_and_followed(
    tmp_path_factory: pytest.TempPathFactory, pg_source: PostgresServer, pg_target: PostgresServer
) -> None:
    large = "repeat(chr(9) || 'x\\' || chr(233), 5000000)"
    with pair(tmp_path_factory.mktemp("large"), pg_source, pg_target) as made:
        made.source.execute(f"CREATE TABLE large (id int PRIMARY KEY, v text); INSERT INTO large VALUES (1, {large})")
        made.run()
        made.change(f"INSERT INTO large VALUES (2, {large}); UPDATE large SET id = 3 WHERE id = 1")
        made.run()
        digest = "SELECT id, length(v), md5(v) FROM large ORDER BY id"
        assert made.source.query(digest) == made.target.query(digest)


def test_text_of_another_encoding_arrives_as_the_same_characters(
    tmp_path_factory: pytest.TempPathFactory, pg_source: PostgresServer, pg_target: PostgresServer
) -> None:
    with pair(tmp_path_factory.mktemp("latin"), pg_source, pg_target, source_encoding="LATIN1") as made:
        made.source.execute("SET client_encoding = 'UTF8'")
        made.source.execute(
            "CREATE TABLE latin (\"clé\" text PRIMARY KEY, v text); INSERT INTO latin VALUES ('é', 'ß')"
        )
        made.run()
        made.change("INSERT INTO latin VALUES ('ü', 'ñ'); UPDATE latin SET v = 'ÿ' WHERE \"clé\" = 'é'")
        made.run()
        made.same("latin")
