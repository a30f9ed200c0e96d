"""The server as the oracle of the value codecs: what it prints is read, written again, and is the same text."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdcflow.codecs.values import BUILT_IN, Json, codec
from cdcflow.model.schema import NativeType
from tests.conftest import MakeDatabase
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer

BY_NAME = {entry.name: NativeType(entry.name, oid=entry.oid) for entry in BUILT_IN}

# One server for all examples of a property; each example is one query.
ON_A_SERVER = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def array_of(name: str) -> NativeType:
    return NativeType(name + "[]", element=BY_NAME[name])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def check(database: Database, native: NativeType, expressions: Iterable[str], *, cast: str = "") -> None:
    """Let the server print each expression, take the text through Python, and compare text and value."""
    values = ", ".join(f"({expression})" for expression in expressions)
    for (printed,) in database.query(f"SELECT format('%s', x) FROM (VALUES {values}) v (x)"):
        there = codec(native)
        value = there.decode(printed.encode())
        again = there.encode(value).decode()
        assert again == printed
        if cast:
            assert database.value(f"SELECT format('%s', {quoted(again)}::{cast})") == printed


FIXED: list[tuple[str, list[str]]] = [
    ("boolean", ["true", "false"]),
    ("numeric", ["'NaN'::numeric", "'-Infinity'::numeric", "1e-16383::numeric", "repeat('9', 131072)::numeric"]),
    ("numeric", ["'-0.00'::numeric", "1e100::numeric", "0.000001::numeric"]),
    ("date", ["date 'infinity'", "date '-infinity'", "date '4713-01-01 BC'", "date '5874897-12-31'"]),
    ("date", ["date '9999-12-31'", "date '10000-01-01'", "date '0001-01-01'"]),
    ("time without time zone", ["time '24:00:00'", "time '00:00:00.000001'"]),
    ("time with time zone", ["timetz '24:00:00+03'", "timetz '10:00-15:59:59'", "timetz '10:00+00'"]),
    ("timestamp without time zone", ["timestamp '-infinity'", "timestamp '294276-12-31 23:59:59.999999'"]),
    ("timestamp with time zone", ["timestamptz '4714-11-24 00:00:00+00 BC'", "timestamptz '2024-01-01 00:00+05:30'"]),
    ("interval", ["interval '1 year -1 day'", "interval '-1 mon 1 day'", "interval '0'", "interval '178000000 years'"]),
    ("uuid", ["gen_random_uuid()"]),
    ("bytea", ["'\\x'::bytea", "'\\xDEADbeef'::bytea"]),
    ("json", ['\'{ "a" : 1,\n "a":2 }\'::json']),
    ("jsonb", ['\'{"b":[1.10,1e30,null],"aa":"\\u0001\\"é"}\'::jsonb', "'null'::jsonb"]),
    ("bit varying", ["B'10110'::varbit", "B''::varbit"]),
    ("inet", ["inet '::ffff:1.2.3.4/96'", "inet '10.0.0.1/8'"]),
    ("money", ["12.34::money"]),
    ("tsvector", ["to_tsvector('simple', 'a fat cat''s mat')"]),
    ("point", ["point '(1.5,-2e300)'"]),
    ("tstzrange", ["tstzrange('2024-01-01', 'infinity', '[]')", "tstzrange(NULL, NULL)", "'empty'::tstzrange"]),
    ("numrange", ["numrange(1.50, NULL)", "numrange(NULL, 'NaN', '(]')"]),
    ("int4multirange", ["'{[1,3),[7,)}'::int4multirange", "'{}'::int4multirange"]),
    ("tsmultirange", ["'{[2024-01-01,2024-02-01 10:00]}'::tsmultirange"]),
    ("xid8", ["'18446744073709551615'::xid8"]),
]


@pytest.mark.parametrize(("name", "expressions"), FIXED)
def test_a_value_at_the_edge_of_its_type_comes_back(source_db: Database, name: str, expressions: list[str]) -> None:
    check(source_db, BY_NAME[name], expressions, cast=name)


def test_the_map_names_types_as_the_server_does(source_db: Database) -> None:
    for entry in BUILT_IN:
        ((name, delimiter),) = source_db.query(
            "SELECT format_type(oid, NULL), typdelim FROM pg_type WHERE oid = %s", [entry.oid]
        )
        assert (name, delimiter) == (entry.name, entry.delimiter.decode())


def test_thousands_of_doubles_are_printed_as_the_server_prints_them(source_db: Database) -> None:
    dice = random.Random(1)
    numbers = [struct.unpack("=d", dice.randbytes(8))[0] for _ in range(3000)]
    numbers += [2.0**power for power in range(-1074, 1024)]
    # Where the middle of two neighbours has few digits, shortest printing has a tie to break.
    numbers += [float(dice.randrange(1, 10**17)) * 10.0 ** dice.randrange(26) for _ in range(6000)]
    numbers += [1e23, 9.5367431640625e-07, 5e-324, 9007199254740993.0, -0.0]
    check(source_db, BY_NAME["double precision"], [f"'{n!r}'::float8" for n in numbers if n - n == 0])


def test_thousands_of_singles_are_printed_as_the_server_prints_them(source_db: Database) -> None:
    dice = random.Random(2)
    numbers = [struct.unpack("=f", dice.randbytes(4))[0] for _ in range(6000)]
    check(source_db, BY_NAME["real"], [f"'{n!r}'::float4" for n in numbers if n - n == 0])


def test_thousands_of_intervals_are_printed_as_the_server_prints_them(source_db: Database) -> None:
    dice = random.Random(3)

    def part(limit: int) -> int:
        return dice.choice([0, dice.randrange(-limit, limit)])

    made = [
        f"make_interval({part(200)}, {part(30)}, 0, {part(400)}, {part(999)}, {part(99)}, {part(99)} + 0.{part(9) % 9})"
        for _ in range(4000)
    ]
    check(source_db, BY_NAME["interval"], made)


TEXT = st.text(st.sampled_from("ab,\"\\{}()[] \t\n;:=>NULL'é🐘"), max_size=6)


@ON_A_SERVER
@given(st.lists(st.none() | TEXT, min_size=1, max_size=6))
def test_text_arrays_come_back(source_db: Database, items: list[str | None]) -> None:
    elements = ", ".join("NULL" if item is None else quoted(item) for item in items)
    check(source_db, array_of("text"), [f"ARRAY[{elements}]::text[]"], cast="text[]")


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("text", "'[3:4]={a,b}'::text[]"),
        ("integer", "'[-2:-1][3:4]={{1,2},{3,NULL}}'::int[]"),
        ("integer", "'{}'::int[]"),
        ("box", "'{(1,2),(3,4);(5,6),(7,8)}'::box[]"),
        ("numrange", "ARRAY['[1.50,2)'::numrange, 'empty', NULL]"),
        ("jsonb", "ARRAY['{\"a\":[1]}'::jsonb, 'null', NULL]"),
        ("bytea", "ARRAY['\\x01'::bytea]"),
        ("interval", "ARRAY[interval '1 day 2 hours']"),
    ],
)
def test_an_array_of_another_kind_comes_back(source_db: Database, name: str, expression: str) -> None:
    check(source_db, array_of(name), [expression], cast=f"{name}[]")


@ON_A_SERVER
@given(st.lists(st.tuples(st.none() | st.integers(-99, 99), st.none() | TEXT, TEXT), min_size=1, max_size=4))
def test_composites_and_arrays_of_them_come_back(source_db: Database, rows: list[tuple[Any, Any, str]]) -> None:
    if not source_db.value("SELECT to_regtype('part') IS NOT NULL"):
        source_db.execute("CREATE TYPE part AS (n int, t text, a text[])")
    part = NativeType(
        '"public"."part"',
        oid=99_999,
        fields=(("n", BY_NAME["integer"]), ("t", BY_NAME["text"]), ("a", array_of("text"))),
    )
    made = [
        f"ROW({'NULL' if n is None else n}, {'NULL' if t is None else quoted(t)}, ARRAY[{quoted(a)}, NULL])::part"
        for n, t, a in rows
    ]
    check(source_db, part, made, cast="part")
    check(source_db, NativeType("part[]", element=part), [f"ARRAY[{', '.join(made)}, NULL]"], cast="part[]")


def test_hstore_comes_back(new_server: Callable[..., PostgresServer], new_database: MakeDatabase) -> None:
    database = new_database(new_server(contrib=True))
    database.execute("CREATE EXTENSION hstore")
    hstore = codec(NativeType('"public"."hstore"', oid=99_998))

    @ON_A_SERVER
    @given(st.dictionaries(TEXT, st.none() | TEXT, max_size=4))
    def comes_back(pairs: dict[str, str | None]) -> None:
        made = hstore.encode(pairs).decode()
        assert database.value(f"SELECT {quoted(made)}::hstore::text") == made
        assert hstore.decode(made.encode()) == pairs

    comes_back()


DOCUMENT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",), min_codepoint=1)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\\né', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@ON_A_SERVER
@given(DOCUMENT)
def test_a_python_value_is_the_same_document_for_the_server(source_db: Database, value: object) -> None:
    text = Json.of(value).text
    printed = source_db.value("SELECT %s::jsonb::text", [text])
    assert Json(printed).value == value
