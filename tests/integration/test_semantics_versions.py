"""One table with a column of every built-in type, and of arrays of them, between servers of different versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.semantics import FILLER_ROWS, Pair, pair
from tests.servers.fleet import PostgresServer

# type: two values of it, as SQL; a third row holds NULLs
VALUES: dict[str, tuple[str, str]] = {
    "aclitem": ("'postgres=r/postgres'", "'=U*/postgres'"),
    "bit(3)": ("'101'", "'000'"),
    "bool": ("true", "false"),
    "box": ("'(2,3),(0.1,1)'", "'(0,0),(0,0)'"),
    "bpchar": ("'ab  '", "''"),
    "bytea": ("'\\x00ff5c0a27'", "''"),
    '"char"': ("'a'", "'\\'"),
    "cid": ("'7'", "'4294967295'"),
    "cidr": ("'10.0.0.0/8'", "'::1/128'"),
    "circle": ("'<(1,2),3.5>'", "'<(0,0),0>'"),
    "date": ("'infinity'", "'4713-01-01 BC'"),
    "datemultirange": ("'{[2024-01-01,2024-02-01),[2025-01-01,)}'", "'{}'"),
    "daterange": ("'[2024-01-01,infinity)'", "'empty'"),
    "float4": ("3.4028235e38", "'-Infinity'"),
    "float8": ("0.1", "'NaN'"),
    "inet": ("'::1/64'", "'10.0.0.1'"),
    "int2": ("32767", "'-32768'"),
    "int2vector": ("'1 2 3'", "''"),
    "int4": ("2147483647", "'-2147483648'"),
    "int4multirange": ("'{[1,5),(7,)}'", "'{}'"),
    "int4range": ("'[1,5)'", "'(,)'"),
    "int8": ("9223372036854775807", "'-9223372036854775808'"),
    "int8multirange": ("'{[1,5),(7,)}'", "'{}'"),
    "int8range": ("'[1,5)'", "'(,)'"),
    "interval": ("'1 year -2 mons 3 days -04:05:06.7'", "'-178000000 years'"),
    "json": ('\'{"b": 1,  "a":"\\u0041\\n", "b": 1e400}\'', "'null'"),
    "jsonb": ('\'{"b": 1.50, "a": [1.0, null]}\'', "'null'"),
    "jsonpath": ("'$.a[*] ? (@ > 1)'", "'strict $'"),
    "line": ("'{1,2,3}'", "'{0,1,0}'"),
    "lseg": ("'[(0,0),(1,1.5)]'", "'[(0,0),(0,0)]'"),
    "macaddr": ("'08:00:2b:01:02:03'", "'00:00:00:00:00:00'"),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'", "'ff:ff:ff:ff:ff:ff:ff:ff'"),
    "money": ("12.34::numeric::money", "'-92233720368547758.08'"),
    "name": ("'a \"name\"'", "''"),
    "numeric": ("repeat('7', 3000)::numeric / 1000", "'NaN'"),
    "nummultirange": ("'{[1.0,2.50),(7,)}'", "'{}'"),
    "numrange": ("'[1.0,2.50]'", "'(,)'"),
    "oid": ("4294967295", "0"),
    "oidvector": ("'1 2 4294967295'", "''"),
    "path": ("'((0,0),(1,1),(2,0))'", "'[(0,0),(1.5,1)]'"),
    "pg_lsn": ("'16/B374D848'", "'0/0'"),
    "pg_snapshot": ("'10:20:10,14'", "'1:1:'"),
    "point": ("'(1.5,-0)'", "'(Infinity,NaN)'"),
    "polygon": ("'((0,0),(1,1),(2,0))'", "'((0,0))'"),
    "refcursor": ("'a \\ cursor'", "''"),
    "regclass": ("'pg_class'", "'pg_type'"),
    "regcollation": ("'\"C\"'", "'\"POSIX\"'"),
    "regconfig": ("'english'", "'simple'"),
    "regdictionary": ("'simple'", "'english_stem'"),
    "regnamespace": ("'pg_catalog'", "'information_schema'"),
    "regoper": ("'|/'", "0"),  # the input function does not read back the name of an overloaded one
    "regoperator": ("'+(integer,integer)'", "0"),
    "regproc": ("'now'", "0"),
    "regprocedure": ("'lower(text)'", "0"),
    "regrole": ("'postgres'", "'pg_monitor'"),
    "regtype": ("'timestamp with time zone'", "'integer[]'"),
    "text": ("E'\\\\N \\t\\n\\r \\\\. 😀'", "''"),
    "tid": ("'(4294967295,65535)'", "'(0,1)'"),
    "time": ("'24:00:00'", "'00:00:00.000001'"),
    "timestamp": ("'infinity'", "'0044-03-15 12:00 BC'"),
    "timestamptz": ("'2024-07-01 12:00:00.000001+05:30'", "'-infinity'"),
    "timetz": ("'24:00:00-15:59:59'", "'10:00+00'"),
    "tsmultirange": ("'{[2024-01-01,2024-02-01),[2025-01-01,)}'", "'{}'"),
    "tsquery": ("'a & !b:*A <2> c'", "''"),
    "tsrange": ("'[2024-01-01,infinity]'", "'empty'"),
    "tstzmultirange": ("'{[2024-01-01 00:00+00,2024-02-01 00:00+00)}'", "'{}'"),
    "tstzrange": ("'[2024-01-01 00:00+00,infinity]'", "'(,2024-01-01 00:00+00)'"),
    "tsvector": ("'''a b'':1A c:2,3'", "''"),
    "txid_snapshot": ("'10:20:10,14'", "'1:1:'"),
    "uuid": ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"),
    "varbit": ("'10101'", "''"),
    "varchar(7)": ("'é😀'", "''"),
    "xid": ("'4294967295'", "'0'"),
    "xid8": ("'18446744073709551615'", "'0'"),
    "xml": ('\'<?xml version="1.0"?><a b="c">&lt;</a>\'', "'only content'"),
}
# Their input functions refuse every value, or (gtsvector) they are for indexes only.
WITHOUT_VALUES = {
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
}
# They came with a version: a source that has them and a target that has not cannot share a column of them.
NEWER = {"regdatabase"}

# 40 kB that compression cannot shorten, so the value lies out of line and an UPDATE of another column leaves
# it out of the log.
LARGE = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1250) n)"

COLUMNS = [(f"c{number}", name) for number, name in enumerate(VALUES)]


def row(key: int, which: int) -> str:
    """Return a row of SQL values: each type's value `which`, an array of both beside it, and a large text."""
    cells = [str(key), "0", LARGE]
    for name, values in VALUES.items():
        cells += [f"{values[which]}::{name}", f"ARRAY[{values[1 - which]}, NULL, {values[which]}]::{name}[]"]
    return f"({', '.join(cells)})"


def table() -> str:
    listed = ", ".join(f"{column} {name}, {column}s {name}[]" for column, name in COLUMNS)
    nothing = ", NULL, NULL" * len(COLUMNS)
    return (
        f"CREATE TABLE every (id int PRIMARY KEY, n int, large text, {listed});"
        " ALTER TABLE every ALTER large SET STORAGE EXTERNAL;"
        f" INSERT INTO every VALUES {row(1, 0)}, {row(2, 1)}, (3, 0, NULL{nothing})"
    )


def changes(first: int) -> tuple[str, ...]:
    """Return transactions that insert, update all, update one beside a large value that stays, move and delete."""
    nothing = ", NULL, NULL" * len(COLUMNS)
    sets = ", ".join(f"{column} = old.{column}, {column}s = old.{column}s" for column, _ in COLUMNS)
    return (
        f"INSERT INTO every VALUES {row(first, 0)}, {row(first + 1, 1)}, ({first + 2}, 0, {LARGE}{nothing}), {row(first + 3, 0)}",
        f"UPDATE every AS new SET {sets} FROM every AS old WHERE new.id IN (1, {first + 2}) AND old.id = 2",
        f"UPDATE every SET n = n + 1 WHERE id IN (2, {first}); UPDATE every SET id = -id WHERE id = {first + 1}",
        f"UPDATE every SET c0 = NULL, n = 7 WHERE id = {first}; DELETE FROM every WHERE id IN (3, {first + 3})",
    )


@pytest.mark.parametrize(("source", "target"), [(14, 18), (18, 14), (15, 17), (17, 15)])
def test_a_column_of_every_built_in_type_is_copied_and_followed_between_versions(
    tmp_path: Path,
    pg: Callable[..., PostgresServer],
    new_server: Callable[..., PostgresServer],
    source: int,
    target: int,
) -> None:
    def server(version: int, role: str) -> PostgresServer:
        # The wheel's 18 is built without xml.
        return new_server(18, contrib=True) if version == 18 else pg(version, role)

    with pair(tmp_path, server(source, "source"), server(target, "target")) as made:
        have = made.source.query(
            "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
            " AND typtype IN ('b', 'r', 'm') AND typname !~ '^_'"
        )
        listed = {name.partition("(")[0].strip('"') for name in VALUES}
        assert {name for (name,) in have} - WITHOUT_VALUES - NEWER == listed
        made.source.execute("CREATE TABLE semantics_ticks (id bigserial PRIMARY KEY)")
        made.source.execute(table())
        made.run()
        made.same("every")
        assert shape(made, "source") == shape(made, "target")

        for transaction in changes(100):  # a large batch
            made.change(transaction)
        made.source.execute(f"INSERT INTO semantics_ticks SELECT FROM generate_series(1, {FILLER_ROWS})")
        made.run()
        made.same("every")
        assert made.target.value(f"SELECT count(*) FROM every WHERE large = {LARGE}") == 5

        running = made.commands.start("run")  # small batches
        made.until_applied(running)
        for transaction in (*changes(200), "TRUNCATE every", f"INSERT INTO every VALUES {row(5, 1)}"):
            made.change(transaction)
            made.until_applied(running)
            made.same("every")
        running.terminate()
        assert running.wait() == 0, running.output()
        assert made.target.query("SELECT id FROM every") == [(5,)]


def shape(made: Pair, side: str) -> list[tuple[str, str]]:
    database = made.source if side == "source" else made.target
    return database.query(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'every'::regclass AND attnum > 0 ORDER BY attnum"
    )
