"""The initial copy of MySQL and MariaDB tables: every kind of key, tables that are altered meanwhile, failures."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdcflow.errors import CopyRestart, SourceUnavailable
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.sources.mysql import selecting
from cdcflow.sources.mysql.chunks import Piece, where
from cdcflow.sources.mysql.snapshot import MysqlSnapshot
from tests.integration.mysql_copies import SERVERS, database, finished, fresh, lines, opened, read, route_of
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import MysqlDatabase


@pytest.fixture(params=SERVERS)
def db(request: pytest.FixtureRequest, fleet: Fleet, new_mysql_database: Callable[..., MysqlDatabase]) -> MysqlDatabase:
    return database(request.param, fleet, new_mysql_database)


# -- keys

KEYS = {
    "int": ("a INT", ["-2147483648", "-5", "0", "1", "2", "3", "1000", "2147483647"], "a"),
    "bigint unsigned": ("a BIGINT UNSIGNED", ["0", "1", "9223372036854775808", "18446744073709551615"], "a"),
    "bigint": ("a BIGINT", ["-9223372036854775808", "-1", "0", "9223372036854775807"], "a"),
    "zerofill": ("a INT ZEROFILL", ["0", "7", "42", "99999"], "a"),
    "decimal": ("a DECIMAL(20,5)", ["-1.5", "0", "0.00001", "123456789012345.12345"], "a"),
    "float": ("a FLOAT", ["-0.1", "0.1", "0.3", "1e20", "16777216"], "a"),
    "double": ("a DOUBLE", ["-0.1", "0.1", "1e-300", "1e300", "0.30000000000000004"], "a"),
    "date": ("a DATE", ["'0000-00-00'", "'2024-00-10'", "'2024-01-01'", "'2024-01-02'"], "a"),
    "datetime": ("a DATETIME(6)", ["'2024-01-01'", "'2024-01-01 00:00:00.000001'", "'2025-01-01'"], "a"),
    "timestamp": ("a TIMESTAMP(3)", ["'2024-01-01'", "'2024-01-01 00:00:00.001'", "'2025-01-01'"], "a"),
    "time": ("a TIME", ["'-838:59:59'", "'-01:00:00'", "'00:00:00'", "'09:00:00'", "'100:00:00'"], "a"),
    "year": ("a YEAR", ["0", "1901", "2024", "2155"], "a"),
    "varchar": ("a VARCHAR(50)", ["''", "'B'", "'a'", "'c '", "'Ö'", "'😀'", "'zz'", "'é'", r"'\\'", "'x''y'"], "a"),
    "char": ("a CHAR(5)", ["''", "'B'", "'a'", "'zz'", "'é'"], "a"),
    "bin text": ("a VARCHAR(50) COLLATE utf8mb4_bin", ["'A'", "'a'", "'B'", "'b'", "'😀'", "'a0'"], "a"),
    "latin1": ("a VARCHAR(50) CHARACTER SET latin1", ["'a'", "'B'", "'é'", "'ü'", "'z'", "''"], "a"),
    "utf16": ("a VARCHAR(50) CHARACTER SET utf16", ["'a'", "'B'", "'é'", "'😀'", "'z'"], "a"),
    "varbinary": ("a VARBINARY(50)", ["X''", "X'00'", "X'0000'", "X'61'", "X'FF'", "X'5C27'"], "a"),
    "binary": ("a BINARY(3)", ["X'00'", "X'61'", "X'6100FF'", "X'FFFFFF'"], "a"),
    "enum": ("a ENUM('z','b','a')", ["'z'", "'a'", "'b'"], "a"),
    "bit": ("a BIT(9)", ["1", "2", "300"], "a"),
    "prefix": ("a VARCHAR(50)", ["'a1'", "'b1'", "'c1'", "'d1'"], "a(1)"),
    "two": ("a INT, b VARCHAR(20)", ["1, 'a'", "1, 'B'", "1, 'c'", "2, 'a'", "3, 'x'", "-1, ''"], "a, b"),
    "two, text first": ("a VARCHAR(20), b INT", ["'a', -1", "'a', 1", "'B', 0", "'c', 5", "'c', 6"], "a, b"),
    "three": (
        "a BIGINT, b DATE, c BINARY(2)",
        [f"{x}, '2024-01-0{y}', X'{z}'" for x in (-1, 5) for y in (1, 2) for z in ("0000", "00FF", "AA")],
        "a, b, c",
    ),
    "text and enum": ("a INT, b ENUM('z','a')", ["1, 'z'", "1, 'a'", "2, 'z'"], "a, b"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_chunks_by_any_key_hold_each_row_once(db: MysqlDatabase, kind: str) -> None:
    columns, values, key = KEYS[kind]
    rows = 2
    db.execute("SET sql_mode = ''")
    db.execute(f"CREATE TABLE t ({columns}, n INT, PRIMARY KEY ({key}))")
    for number, value in enumerate(values):
        db.execute(f"INSERT INTO t VALUES ({value}, {number})")
    route = fresh(route_of(db), estimated_rows=1000)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=rows)) as snapshot:
        found = read(snapshot, route)
        again = read(snapshot, route, [finished(snapshot, chunk) for chunk, _ in found[::2]])
    numbers = sorted(int(line.split("\t")[-1]) for _, each in found for line in each)
    assert numbers == list(range(len(values)))
    if kind not in ("enum", "bit", "prefix"):
        assert len(found) >= min(2, len(values) // rows)
        assert all(len(each) <= 2 * rows + 1 for _, each in found) or kind == "text and enum"
    left = sorted(line for _, each in again for line in each)
    assert left == sorted(line for _, each in found[1::2] for line in each)


@pytest.mark.parametrize("direction", ["a DESC", "a DESC, b DESC", "a, b DESC"])
def test_descending_keys(db: MysqlDatabase, direction: str) -> None:
    db.execute(
        f"CREATE TABLE t (a VARCHAR(9), b INT, PRIMARY KEY ({direction if 'b' in direction else direction + ', b'}))"
    )
    db.execute("INSERT INTO t VALUES " + ", ".join(f"('{chr(97 + n % 5)}', {n})" for n in range(50)))
    route = route_of(db)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=7)) as snapshot:
        found = read(snapshot, route)
    assert sorted(int(line.split("\t")[1]) for _, each in found for line in each) == list(range(50))
    assert len(found) > 3


def test_a_range_is_read_by_its_index(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT, b INT, c INT, n INT, PRIMARY KEY (a, b, c))")
    db.execute(
        "INSERT INTO t WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 900)"
        " SELECT 1, n DIV 30, n MOD 30, n FROM s"
        if db.server.flavour == "mysql"
        else "INSERT INTO t SELECT 1, seq DIV 30, seq MOD 30, seq FROM seq_0_to_900"
    )
    db.execute("ANALYZE TABLE t")
    route = route_of(db)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=100)) as snapshot:
        chunks = snapshot.plan(route, [])
        assert len(chunks) > 8
        key = snapshot._keys[route.source.id]
        for chunk in chunks[1:-1]:
            piece = Piece.of(chunk)
            statement = selecting.statement(route, key.index, where(key, piece.low, piece.high))
            (explained,) = db.query(f"EXPLAIN FORMAT=TRADITIONAL {statement}")
            row = [str(value) for value in explained]
            assert "range" in row
            assert "PRIMARY" in row
            estimate = [int(value) for value in row[-4:] if value.isdigit()]
            assert estimate[0] < 300


def test_gaps_among_the_keys_make_no_chunks(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a BIGINT UNSIGNED PRIMARY KEY)")
    numbers = [*range(3000), *range(2**40, 2**40 + 3000), *range(2**64 - 3000, 2**64)]
    for start in range(0, len(numbers), 1000):
        db.execute("INSERT INTO t VALUES " + ", ".join(f"({n})" for n in numbers[start : start + 1000]))
    db.execute("ANALYZE TABLE t")
    route = route_of(db)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1000)) as snapshot:
        found = read(snapshot, route)
    assert sorted(int(line) for _, each in found for line in each) == numbers
    assert 6 <= len(found) <= 40


def test_a_small_table_is_one_chunk(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (1), (1000000), (-7)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        assert len(snapshot.plan(route_of(db), [])) == 1


def test_an_empty_table_is_one_chunk_without_rows(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a VARCHAR(20) PRIMARY KEY)")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        assert [found for _, found in read(snapshot, route_of(db))] == [[]]


def test_a_unique_index_serves_where_there_is_no_primary_key(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (n INT, a INT NOT NULL, b INT, UNIQUE (b), UNIQUE u (a))")
    db.execute("INSERT INTO t VALUES (1, 5, NULL), (2, 6, NULL), (3, 7, 1)")
    route = route_of(db)
    assert route.key == ("a",)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1)) as snapshot:
        found = read(snapshot, fresh(route, estimated_rows=100))
    assert sorted(line for _, each in found for line in each) == ["1	5	\\N", "2	6	\\N", "3	7	1"]
    assert len(found) > 1


def test_a_key_that_is_walked_takes_a_turn_at_each_step_and_ends_there(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a VARCHAR(20) PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES " + ", ".join(f"('{n:04}')" for n in range(100)))
    turns: list[int] = []

    def third() -> None:
        turns.append(len(turns))
        if len(turns) == 3:
            raise LookupError

    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=10)) as snapshot:
        route = fresh(route_of(db), estimated_rows=100)
        planned = snapshot.plan(route, [], lambda: turns.append(len(turns)))
        assert 10 <= len(planned) <= len(turns)
        turns.clear()
        with pytest.raises(LookupError):
            snapshot.plan(route, [], third)
        assert len(turns) == 3
        assert snapshot.plan(route, []) == planned


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
KEY_SETS = st.one_of(
    st.tuples(st.just("INT"), st.sets(st.integers(-50, 50) | st.integers(-(2**31), 2**31 - 1), max_size=25)),
    st.tuples(st.just("BIGINT UNSIGNED"), st.sets(st.integers(0, 2**64 - 1), max_size=25)),
    st.tuples(st.just("VARCHAR(20)"), st.sets(TEXTS, max_size=25)),
    st.tuples(st.just("VARBINARY(20)"), st.sets(st.binary(max_size=4), max_size=25)),
)


@pytest.mark.parametrize("server", SERVERS[::2])
def test_any_done_chunks_and_the_rest_make_any_table_whole(
    server: str, fleet: Fleet, new_mysql_database: Callable[..., MysqlDatabase]
) -> None:
    db = database(server, fleet, new_mysql_database)
    numbers = itertools.count()

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(KEY_SETS, st.integers(1, 7), st.integers(0, 2**30), st.booleans())
    def holds(keys: tuple[str, set[Any]], rows: int, seed: int, composite: bool) -> None:
        kind, values = keys
        chance = random.Random(seed)
        table = f"p{next(numbers)}"
        key = "b, a" if composite else "a"
        db.execute(f"CREATE TABLE {table} (a {kind}, b INT, n INT, PRIMARY KEY ({key}))")
        for number, value in enumerate(values):
            db.execute(f"INSERT IGNORE INTO {table} VALUES (%s, %s, %s)", [value, number % 3, number])
        expected = sorted(n for (n,) in db.query(f"SELECT n FROM {table}"))
        route = fresh(route_of(db, table), estimated_rows=10_000, bytes=1)
        done: list[DoneChunk] = []
        seen: list[int] = []
        with opened(db) as sessions:
            for attempt in range(4):
                step = rows if attempt < 2 else chance.randint(1, 9)
                with closing(MysqlSnapshot(sessions, chunk_rows=step)) as snapshot:
                    planned = snapshot.plan(route, done)
                    chosen = [chunk for chunk in planned if attempt == 3 or chance.random() < 0.5]
                    chance.shuffle(chosen)
                    for chunk in chosen:
                        # As the state gives it back: all that is remembered is text.
                        again = Chunk(chunk.table_id, chunk.number, chunk.low, chunk.high)
                        seen += [int(line.rsplit("\t", 1)[1]) for line in lines(snapshot, route, again)]
                        done.append(finished(snapshot, again))
            with closing(MysqlSnapshot(sessions)) as snapshot:
                assert snapshot.plan(route, done) == []
        assert sorted(seen) == expected
        assert len({each.chunk.number for each in done}) == len(done)
        db.execute(f"DROP TABLE {table}")

    holds()


def test_a_finished_chunk_under_another_key_starts_the_copy_over(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT NOT NULL)")
    db.execute("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)")
    route = fresh(route_of(db), estimated_rows=100)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1)) as snapshot:
        first, *_ = snapshot.plan(route, [])
        db.execute("ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (b)")
        with pytest.raises(CopyRestart, match="starts over"):
            snapshot.plan(route_of(db), [finished(snapshot, first)])


# -- while others alter


CHANGES = (
    "ALTER TABLE t ADD COLUMN c INT",
    "ALTER TABLE t MODIFY b BIGINT",
    "ALTER TABLE t MODIFY b VARCHAR(20)",
    "ALTER TABLE t DROP COLUMN b",
    "ALTER TABLE t RENAME COLUMN b TO c",
    "ALTER TABLE t DROP PRIMARY KEY",
    "RENAME TABLE t TO u",
    "DROP TABLE t",
)
WHEN = ("before the plan", "before the first chunk", "between chunks")


@pytest.mark.parametrize(
    ("change", "when"),
    [*((change, WHEN[2]) for change in CHANGES), *((CHANGES[n], when) for n in (1, 3, 7) for when in WHEN[:2])],
)
def test_a_table_altered_under_the_copy_starts_over(db: MysqlDatabase, change: str, when: str) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b INT)")
    db.execute("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 4)")
    route = fresh(route_of(db), estimated_rows=100)
    with opened(db) as sessions, closing(MysqlSnapshot(sessions, chunk_rows=1)) as snapshot:
        if when == "before the plan":
            db.execute(change)
        chunks = snapshot.plan(route, [])
        if when == "before the first chunk":
            db.execute(change)
        if when == "between chunks":
            lines(snapshot, route, chunks[0])
            db.execute(change)
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunks[-1])


def test_a_table_without_a_key_altered_before_it_is_read_starts_over(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT)")
    route = route_of(db)
    db.execute("ALTER TABLE t ADD COLUMN b INT")
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        (chunk,) = snapshot.plan(route, [])
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunk)
        db.execute("DROP TABLE t")
        (chunk,) = snapshot.plan(route, [])
        with pytest.raises(CopyRestart):
            lines(snapshot, route, chunk)


# -- failures


def test_a_killed_session_is_an_outage_and_the_chunk_can_be_read_again(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b LONGTEXT)")
    db.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, REPEAT('x', 200000))" for n in range(200)))
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        chunk = snapshot.plan(route, [])[0]
        blocks = iter(snapshot.read(route, chunk))
        next(blocks)
        reading = "SELECT id FROM information_schema.processlist WHERE db = %s AND info LIKE 'SELECT `a`%%'"
        db.execute(f"KILL {db.value(reading, [db.name])}")
        with pytest.raises(SourceUnavailable):
            list(blocks)
        assert len(lines(snapshot, route, chunk)) == 200


def test_a_reader_that_stops_in_the_middle_leaves_nothing_behind(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY, b LONGTEXT)")
    db.execute("INSERT INTO t VALUES " + ", ".join(f"({n}, REPEAT('x', 200000))" for n in range(100)))
    with opened(db) as sessions, closing(MysqlSnapshot(sessions)) as snapshot:
        route = route_of(db)
        chunk = snapshot.plan(route, [])[0]
        blocks = snapshot.read(route, chunk)
        next(iter(blocks))
        blocks.close()  # type: ignore[attr-defined]
        assert len(lines(snapshot, route, chunk)) == 100
        db.execute("SET lock_wait_timeout = 60")
        db.execute("ALTER TABLE t ADD COLUMN c INT")


def test_it_is_over_when_it_is_closed(db: MysqlDatabase) -> None:
    db.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    with opened(db) as sessions:
        snapshot = MysqlSnapshot(sessions)
        route = route_of(db)
        (chunk,) = snapshot.plan(route, [])
        snapshot.close()
        snapshot.close()
        with pytest.raises(SourceUnavailable):
            lines(snapshot, route, chunk)
