"""The view of the source: whole, exact in its position, resumable, and honest when the table changes under it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from cdcflow.errors import CdcflowError, CopyRestart, SourceUnavailable
from cdcflow.model.context import Context
from cdcflow.model.copy import Chunk
from cdcflow.sources.postgres import Config, PostgresSource
from cdcflow.sources.postgres.config import SnapshotConfig
from tests.integration.source_opened import open_source
from tests.integration.source_views import lines, route_of
from tests.servers.database import Database
from tests.servers.waiting import until

CHUNK = 65536  # eight blocks


@pytest.fixture(params=[14, 16, 18])
def database(
    request: pytest.FixtureRequest, pg: Callable[..., object], new_database: Callable[..., Database]
) -> Database:
    return new_database(pg(request.param))


@pytest.fixture
def source(database: Database) -> Iterator[PostgresSource]:
    source = open_source(database, snapshot=SnapshotConfig(chunk=CHUNK))
    yield source
    source.close()


def test_the_chunks_together_are_the_table_at_the_view(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, n FROM generate_series(1,20000) n"
    )
    snapshot = source.snapshot()
    database.execute("UPDATE t SET v = 'late'; INSERT INTO t SELECT n, 'late' FROM generate_series(20001, 30000) n")
    route = route_of(source)
    chunks = snapshot.plan(route, [])
    assert len(chunks) > 10
    assert sorted(lines(snapshot, route, chunks)) == sorted(f"{n}\t{n}".encode() for n in range(1, 20001))
    snapshot.close()


def test_an_empty_table_has_a_chunk_without_rows(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    snapshot = source.snapshot()
    route = route_of(source)
    (chunk,) = snapshot.plan(route, [])
    assert list(snapshot.read(route, chunk)) == []
    snapshot.close()


def test_a_block_holds_whole_lines_whatever_the_values_are(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, b bytea);"
        "INSERT INTO t SELECT n, repeat(E'a\\n\\t\\\\', 20000), repeat('x', 100)::bytea FROM generate_series(1, 60) n"
    )
    snapshot = source.snapshot()
    route = route_of(source)
    seen = 0
    for chunk in snapshot.plan(route, []):
        for block in snapshot.read(route, chunk):
            assert block.endswith(b"\n")
            seen += block.count(b"\n")
    assert seen == 60
    snapshot.close()


def test_rows_of_a_partition_tree_come_once_each(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (5000);"
        "CREATE TABLE t2 (v text, gone int, id int NOT NULL); ALTER TABLE t2 DROP gone;"
        "ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (5000) TO (10000);"
        "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (10000) TO (20000) PARTITION BY RANGE (id);"
        "CREATE TABLE t31 PARTITION OF t3 FOR VALUES FROM (10000) TO (15000);"
        "INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 12000) n"
    )
    snapshot = source.snapshot()
    route = route_of(source)
    assert route.source.partitioned
    got = lines(snapshot, route, snapshot.plan(route, []))
    assert sorted(got) == sorted(f"{n}\tv{n}".encode() for n in range(1, 12001))
    snapshot.close()


def test_children_by_inheritance_are_not_read_with_their_parent(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (t);"
        "INSERT INTO t VALUES (1); INSERT INTO child VALUES (2)"
    )
    snapshot = source.snapshot()
    route = route_of(source)
    assert lines(snapshot, route, snapshot.plan(route, [])) == [b"1"]
    snapshot.close()


def test_names_that_need_quoting_are_read(source: PostgresSource, database: Database) -> None:
    database.execute(
        'CREATE SCHEMA "Größe %s"; CREATE TABLE "Größe %s"."a""b;:x" ("c %(x)s" int PRIMARY KEY, "select" int);'
    )
    database.execute('INSERT INTO "Größe %s"."a""b;:x" VALUES (1, 2)')
    snapshot = source.snapshot()
    route = route_of(source, 'a"b;:x')
    assert lines(snapshot, route, snapshot.plan(route, [])) == [b"1\t2"]
    snapshot.close()


def test_several_threads_read_the_same_view(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT n FROM generate_series(1, 50000) n")
    snapshot = source.snapshot()
    database.execute("DELETE FROM t WHERE id % 2 = 0")
    route = route_of(source)
    queue, got, lock = snapshot.plan(route, []), list[bytes](), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not queue:
                    return
                chunk = queue.pop()
            rows = lines(snapshot, route, [chunk])
            with lock:
                got.extend(rows)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot.close()
    assert sorted(map(int, got)) == list(range(1, 50001))


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM FULL t",
        "TRUNCATE t",
        "ALTER TABLE t ALTER v TYPE int USING v::int",
        "ALTER TABLE t DROP COLUMN v",
        "ALTER TABLE t RENAME COLUMN v TO w",
        "DROP TABLE t",
        "ALTER TABLE t RENAME TO u; CREATE TABLE t (id int PRIMARY KEY, v text); DROP TABLE u",
    ],
)
def test_a_table_that_is_changed_under_the_copy_starts_over(
    source: PostgresSource, database: Database, statement: str
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, n FROM generate_series(1,9000) n"
    )
    route = route_of(source)
    snapshot = source.snapshot()
    first, *rest = snapshot.plan(route, [])
    assert lines(snapshot, route, [first])
    database.execute(statement)
    with pytest.raises(CopyRestart):
        lines(snapshot, route, rest)
    snapshot.close()


def test_a_rewrite_between_the_view_and_the_plan_is_noticed(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, n FROM generate_series(1,9000) n"
    )
    snapshot = source.snapshot()
    database.execute("ALTER TABLE t ALTER v TYPE int USING v::int")
    route = route_of(source)
    with pytest.raises(CopyRestart):
        lines(snapshot, route, snapshot.plan(route, []))
    snapshot.close()


def test_a_table_renamed_under_the_copy_is_read_on(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT n FROM generate_series(1, 9000) n")
    route = route_of(source)
    snapshot = source.snapshot()
    chunks = snapshot.plan(route, [])
    database.execute('CREATE SCHEMA other; ALTER TABLE t RENAME TO "New"; ALTER TABLE "New" SET SCHEMA other')
    assert len(lines(snapshot, route, chunks)) == 9000
    snapshot.close()


def test_no_lock_is_kept_between_two_chunks(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY) WITH (autovacuum_enabled = false);"
        "INSERT INTO t SELECT n FROM generate_series(1, 9000) n"
    )
    route = route_of(source)
    snapshot = source.snapshot()
    first, *_ = snapshot.plan(route, [])
    lines(snapshot, route, [first])
    assert database.query("SELECT mode FROM pg_locks WHERE relation = 't'::regclass") == []
    snapshot.close()


def test_a_reader_that_gives_up_in_the_middle_leaves_nothing_behind(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text);"
        "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n"
    )
    source = open_source(database, snapshot=SnapshotConfig(chunk=64_000_000))
    route = route_of(source)
    snapshot = source.snapshot()
    (chunk,) = snapshot.plan(route, [])
    blocks = snapshot.read(route, chunk)
    next(blocks)
    blocks.close()
    until(
        lambda: not database.query("SELECT 1 FROM pg_locks WHERE relation = 't'::regclass"),
        limit=60,
        what="the lock of the broken-off chunk is gone",
    )
    assert len(lines(snapshot, route, [chunk])) == 20000
    snapshot.close()
    source.close()


def test_when_the_exporting_connection_dies_the_copy_may_be_tried_again(
    source: PostgresSource, database: Database
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    route = route_of(source)
    snapshot = source.snapshot()
    chunks = snapshot.plan(route, [])
    (slot,) = database.slots()
    database.query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [slot])
    until(lambda: not database.slots(), limit=60, what="the temporary slot is gone")
    with pytest.raises(SourceUnavailable, match="the view that the copy reads is gone"):
        lines(snapshot, route, chunks)
    snapshot.close()


def test_a_closed_view_takes_its_slot_and_its_connections_with_it(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    snapshot = source.snapshot()
    route = route_of(source)
    lines(snapshot, route, snapshot.plan(route, []))
    assert len(database.slots()) == 1
    snapshot.close()
    snapshot.close()
    until(lambda: not database.slots(), limit=60, what="the temporary slot is gone")
    with pytest.raises(CdcflowError):
        lines(snapshot, route, [Chunk(1, 0, "1:1:0", "")])


def test_row_level_security_is_an_error_and_never_fewer_rows(source: PostgresSource, database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2); ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON t USING (id = 1); DROP ROLE IF EXISTS cdcflow_rls;"
        "CREATE ROLE cdcflow_rls LOGIN REPLICATION PASSWORD 'rls';"
        "GRANT SELECT ON t TO cdcflow_rls"
    )
    url = database.server.url(database.name, user="cdcflow_rls", password="rls")  # type: ignore[attr-defined]
    limited = PostgresSource(Config(url=url), Context("rls", 256_000_000, 100_000, 64_000_000))
    snapshot = limited.snapshot()
    route = route_of(limited)
    with pytest.raises(CdcflowError, match="row-level security") as refused:
        lines(snapshot, route, snapshot.plan(route, []))
    assert "BYPASSRLS" in refused.value.do
    snapshot.close()
    limited.close()
    database.execute("DROP OWNED BY cdcflow_rls; DROP ROLE cdcflow_rls")
