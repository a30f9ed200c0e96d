"""PostgreSQL to MySQL and MariaDB: every type copied and streamed, and what happens to rows happens to their copies."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import pytest

from tests.integration import test_semantics_rows, test_semantics_shapes, test_semantics_values, test_semantics_versions
from tests.integration.mysql_pairs import Pair, pair, quoted
from tests.integration.semantics import Case
from tests.servers.fleet import Fleet
from tests.servers.waiting import until

# The first test of a way makes the pipeline for all of them.
pytestmark = pytest.mark.timeout(400)

# Changes that a run follows one by one, and changes that wait for it in one large batch.
WAYS = ("postgres-mysql followed", "postgres-mariadb later")

# docs/types.md: what a column of MySQL refuses. The run stops for it, which other tests show.
REFUSED = ("infinity", "nan", " bc", "294276", "5874897")
REFUSING = ("date", "float4", "float8", "numeric(7,3)", "timestamp", "timestamptz")
MORE_VALUES = {
    "date": ("'0001-01-01'", "'2024-02-29'", "'9999-12-31'"),
    "float4": ("3.4028235e38", "1e-45", "16777217", "0.1", "'-1.5e-30'"),
    "numeric(65,30)": ("0.000000000000000000000000000001", "repeat('7', 35)::numeric", "'-1.10'"),
    "numeric(12,2)": ("1.10", "'-9999999999.99'", "0"),
    "time": ("'23:59:59.999999'",),
    "timestamp": ("'0001-01-01 00:00'", "'2024-02-29 12:34:56.5'", "'9999-12-31 23:59:59.999999'"),
    "timestamptz": ("'0001-01-02 00:00+00'", "'9999-12-31 23:59:59.999999+00'"),
    "bit(64)": ("repeat('1', 64)::bit(64)", "x'8000000000000001'::bit(64)"),
    "varchar(1024)": ("repeat('é', 1024)",),
    "character(255)": ("'ab'", "'😀'"),
}
STREAMED = 1000  # what is added to the numbers of the rows that are inserted again

UPSERTS = Case(
    "CREATE TABLE upserts (id int PRIMARY KEY, u text UNIQUE, n int NOT NULL DEFAULT 0);"
    "INSERT INTO upserts SELECT n, 'u' || n, n FROM generate_series(1, 10) n",
    (
        "INSERT INTO upserts SELECT n, 'v' || n, n FROM generate_series(6, 15) n"
        " ON CONFLICT (id) DO UPDATE SET n = upserts.n + 100, u = excluded.u",
        "INSERT INTO upserts VALUES (99, 'u1', 1) ON CONFLICT (u) DO UPDATE SET id = 77",
        "INSERT INTO upserts VALUES (2, 'nothing') ON CONFLICT DO NOTHING",
        "MERGE INTO upserts USING (VALUES (3), (30)) v (id) ON upserts.id = v.id"
        " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'merged', 30)",
    ),
    ("upserts",),
)


def cases() -> dict[str, Case]:
    """Return the cases between two PostgreSQL that apply here, less what a column of MySQL has no value for."""
    rows = {**test_semantics_rows.SETS, **test_semantics_rows.CONFLICTS}
    for name in (
        "deferred_unique_swaps_in_one_statement",  # docs/targets-mysql.md: cannot be written
        "deferred_key_swaps_in_one_statement",
        "an_exclusion_constraint",
    ):
        del rows[name]
    keyless = rows["rows_without_a_key_some_of_them_equal"]
    setup = keyless.setup.replace("'[]', 'NaN'", "'[]', 7")  # no NaN, and a -0 that is equal to 0
    rows["rows_without_a_key_some_of_them_equal"] = replace(
        keyless,
        setup=setup.replace("NULL, '-0'", "NULL, '-1'"),
        transactions=tuple(each.replace("= '-0'", "= '-1'") for each in keyless.transactions),
    )
    shapes = {
        name: test_semantics_shapes.CASES[name]
        for name in (
            "names_of_63_bytes",
            "several_tables_emptied_at_once",
            "a_partition_emptied_alone_and_the_whole",
            "columns_that_come_and_go",
            "a_column_added_within_a_transaction_of_rows",
        )
    }
    return {"upserts": UPSERTS, **rows, **shapes}


CASES = cases()


def values() -> dict[str, tuple[str, ...]]:
    """Return values of every type: those of the tests between two PostgreSQL that MySQL's columns take, and more."""
    found: dict[str, tuple[str, ...]] = {}
    known = (test_semantics_versions.VALUES, test_semantics_values.VALUES, MORE_VALUES)
    for name, listed in (item for each in known for item in each.items()):
        taken = (value for value in listed if not (name in REFUSING and any(w in value.lower() for w in REFUSED)))
        found[name] = (*found.get(name, ()), *taken)
    del found["xml"]  # not in the server of the tests; a column like those of tsvector and others
    return found


VALUES = values()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the source, and the same as PostgreSQL calls its type."""

    name: str
    type: str


def columns_of(made: Pair, table: str) -> list[Column]:
    found = made.source.query(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass"
        " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        [table],
    )
    return [Column(str(name), str(kind)) for name, kind in found]


def canonical(made: Pair, table: str) -> list[tuple[Any, ...]]:
    """Return a table's rows at the source: the text of every value as PostgreSQL prints it."""
    columns = columns_of(made, table)
    listed = ", ".join(_shown(each) for each in columns)
    return _sorted(
        tuple(_plain(made, each, value) for each, value in zip(columns, row, strict=True))
        for row in made.source.query(f"SELECT {listed} FROM {table}")
    )


def arrived(made: Pair, table: str) -> list[tuple[Any, ...]]:
    """Return a table's rows at the target, written as PostgreSQL would print what the column means."""
    columns = columns_of(made, table)
    listed = ", ".join(_asked(each) for each in columns)
    return _sorted(
        tuple(_plain(made, each, _printed(each, value)) for each, value in zip(columns, row, strict=True))
        for row in made.target.query(f"SELECT {listed} FROM {made.name(table)}")
    )


def _sorted(rows: Any) -> list[tuple[Any, ...]]:
    return sorted(rows, key=lambda row: [str(value) for value in row])


def _shown(column: Column) -> str:
    name = quoted(column.name)
    if column.type in ("bpchar", "inet"):  # a cast takes spaces away, and adds a mask
        return f"CASE WHEN {name} IS NOT NULL THEN format('%s', {name}) END"
    return f"{name}::text"


def _asked(column: Column) -> str:
    """Return the question that gets the whole of a value."""
    name = quoted(column.name, "`")
    if column.type == "bytea":
        return f"lower(hex({name}))"
    if column.type.startswith("bit(") and not column.type.endswith("[]"):
        return f"bin({name} + 0)"
    if column.type == "real":
        return f"{name} + 0e0"  # by itself it shows six digits
    if column.type == "double precision":
        return name
    return f"CAST({name} AS CHAR)"


def _printed(column: Column, value: Any) -> Any:
    """Write what MySQL says of a value as PostgreSQL prints it."""
    if value is None or column.type.endswith("[]"):
        return value
    match column.type.split("(")[0]:
        case "boolean":
            return {"1": "true", "0": "false"}[value]
        case "bytea":
            return "\\x" + value
        case "bit":
            return value.zfill(int(column.type[4:-1]))
        case "time without time zone" | "timestamp without time zone":
            return value.rstrip("0").rstrip(".") if "." in value else value
        case "timestamp with time zone":
            return (value.rstrip("0").rstrip(".") if "." in value else value) + "+00"
    return value


def _plain(made: Pair, column: Column, value: Any) -> Any:
    """Take away what docs/types.md says is lost: pads of char, in jsonb the order of keys and digits of numbers, -0."""
    if value is None:
        return None
    match column.type.split("(")[0]:
        case "real":
            return struct.pack("<f", float(value))
        case "double precision":
            return struct.pack("<d", float(value) + (0.0 if made.engines[1] == "mariadb" else -0.0))
        case "jsonb":
            return json.dumps(json.loads(value), sort_keys=True)
        case "character":
            return value.rstrip(" ")
    return value


@pytest.fixture(scope="module", params=WAYS)
def done(request: pytest.FixtureRequest, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Every case's tables and every type's values: made, copied, changed and followed in one pipeline."""
    engines, _, way = request.param.partition(" ")
    with pair(tmp_path_factory.mktemp("pair"), fleet, engines) as made:
        made.source.execute(test_semantics_values.TYPES)
        names = {name: f"c{number}" for number, name in enumerate(VALUES)}
        made.source.execute(
            f"CREATE TABLE every (id int PRIMARY KEY, {', '.join(f'{c} {name}' for name, c in names.items())})"
        )
        for case in CASES.values():
            made.source.execute(case.setup)
        insert_values(made, 0)
        made.run()
        running = made.start() if way == "followed" else None
        if running is not None:
            running.until_output("streaming")
        insert_values(made, STREAMED)
        for case in CASES.values():
            for transaction in case.transactions:
                made.source.execute(f"BEGIN; {transaction}; COMMIT")
        if running is not None:
            running.terminate()
            assert running.wait() == 0, running.output()[-8000:]
        made.run()
        made.run()  # what is copied again comes behind what is followed
        yield made


def insert_values(made: Pair, first: int) -> None:
    listed = zip_longest(*([f"{v}::{name}" for v in each] for name, each in VALUES.items()), fillvalue="NULL")
    rows = ", ".join(
        f"({first + number}, {', '.join(row)})" for number, row in enumerate([*listed, ["NULL"] * len(VALUES)])
    )
    made.source.execute(f"INSERT INTO every VALUES {rows}")


def test_every_value_has_its_canonical_text_copied_and_streamed(done: Pair) -> None:
    here, there = (
        {int(row[0]): row[1:] for row in rows} for rows in (canonical(done, "every"), arrived(done, "every"))
    )
    assert sorted(here) == sorted(there)
    wrong: dict[str, Any] = {}
    for number, row in here.items():
        for name, wanted, found in zip(VALUES, row, there[number], strict=True):
            if wanted != found:
                wrong[f"{name} of row {number}"] = (str(found)[:150], str(wanted)[:150])
    assert wrong == {}
    kept = {int(row[0]): row[1:] for row in done.target.query(f"SELECT * FROM {done.name('every')}")}
    for number, row in kept.items():
        if number < STREAMED:
            assert row == kept[number + STREAMED]


@pytest.mark.parametrize("case", CASES)
def test_these_changes_end_as_at_the_source(done: Pair, case: str) -> None:
    for table in CASES[case].tables:
        assert arrived(done, table) == canonical(done, table), table


def test_a_reader_of_the_target_sees_whole_transactions_only(
    done: Pair,
) -> None:
    """Money moves between two tables in transactions of several statements; no look at the target misses any."""
    done.source.execute(
        "CREATE TABLE purses (id int PRIMARY KEY, n int); CREATE TABLE banks (id int PRIMARY KEY, n int);"
        "INSERT INTO purses SELECT i, 100 FROM generate_series(1, 20) i; INSERT INTO banks SELECT * FROM purses"
    )
    done.run()
    purses, banks = done.name("purses"), done.name("banks")
    running = done.start()
    running.until_output("streaming")
    seen = set()

    def look() -> bool:
        ((together, last),) = done.target.query(
            f"SELECT (SELECT sum(n) FROM {purses}) + (SELECT sum(n) FROM {banks}),"
            f" (SELECT count(*) FROM {banks} WHERE id = 1000)"
        )
        seen.add(int(together))
        return bool(last) or running.ended

    for number in range(150):
        one, other = number % 20 + 1, (number * 7) % 20 + 1
        done.source.execute(
            f"BEGIN; UPDATE purses SET n = n - 5 WHERE id = {one}; UPDATE banks SET n = n + 3 WHERE id = {other};"
            f"UPDATE banks SET n = n + 2 WHERE id = {one}; COMMIT"
        )
        look()
    done.source.execute("INSERT INTO banks VALUES (1000, 0)")
    until(look, limit=60, what="the last one is there")
    running.terminate()
    assert running.wait() == 0, running.output()[-4000:]
    assert seen == {4000}
    assert arrived(done, "banks") == canonical(done, "banks")
