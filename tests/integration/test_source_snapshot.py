"""The view of the source: whole, exact in its position, resumable, and honest when the table changes under it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator

import psycopg
import pytest

from cdcflow.errors import CdcflowError, CopyRestart, SourceUnavailable
from cdcflow.model.context import Context
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.sources.postgres import Config, Lsn, PostgresSource
from cdcflow.sources.postgres.config import SnapshotConfig
from cdcflow.sources.postgres.snapshot import PostgresSnapshot
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
    config = Config(url=database.url, snapshot=SnapshotConfig(chunk=CHUNK))
    source = PostgresSource(config, Context(database.name[-30:], 256_000_000, 100_000, 64_000_000))
    yield source
    source.close()


def route_of(source: PostgresSource, name: str = "t") -> Route:
    table = next(table for table in source.tables() if table.name.table == name)
    return Route(table, table.name, tuple((c, c.name) for c in table.columns if not c.generated), table.key)


def lines(snapshot: PostgresSnapshot, route: Route, chunks: Iterable[Chunk]) -> list[bytes]:
    return [line for chunk in chunks for line in b"".join(snapshot.read(route, chunk)).splitlines()]


def finish(snapshot: PostgresSnapshot, chunks: Iterable[Chunk]) -> list[DoneChunk]:
    return [DoneChunk(chunk, str(snapshot.position), snapshot.token, 0, 0) for chunk in chunks]


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
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT n FROM generate_series(1, 9000) n")
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
    config = Config(url=database.url, snapshot=SnapshotConfig(chunk=64_000_000))
    source = PostgresSource(config, Context(database.name[-30:], 256_000_000, 100_000, 64_000_000))
    route = route_of(source)
    snapshot = source.snapshot()
    (chunk,) = snapshot.plan(route, [])
    blocks = snapshot.read(route, chunk)
    next(blocks)
    blocks.close()
    until(
        lambda: not database.query("SELECT 1 FROM pg_locks WHERE relation = 't'::regclass"),
        limit=10,
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
    until(lambda: not database.slots(), limit=10, what="the temporary slot is gone")
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
    until(lambda: not database.slots(), limit=10, what="the temporary slot is gone")
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


def test_the_position_divides_the_log_exactly_where_the_view_does(source: PostgresSource, database: Database) -> None:
    """Every transaction is either in the view or committed at or behind its position, under concurrent writers."""
    database.execute("CREATE TABLE t (id bigserial PRIMARY KEY, lsn pg_lsn)")
    stop = threading.Event()

    def write() -> None:
        with database.connect() as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO t (lsn) VALUES (pg_current_wal_insert_lsn())")

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        until(lambda: database.value("SELECT count(*) FROM t") > 300, limit=20, what="the writers write")
        snapshot = source.snapshot()
        count = database.value("SELECT count(*) FROM t")
        until(lambda: database.value("SELECT count(*) FROM t") > count + 300, limit=20, what="the writers go on")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    route = route_of(source)
    rows = [line.split(b"\t") for line in lines(snapshot, route, snapshot.plan(route, []))]
    seen = {int(number) for number, _ in rows}
    # A row's own insert position is before its commit record, so none in the view can be behind the position.
    assert all(snapshot.position.covers(Lsn.parse(lsn.decode())) for _, lsn in rows)
    # Whoever had seen a row at the position is in it: numbers may have gaps only where a commit came later.
    later = {number for (number,) in database.query("SELECT id FROM t")} - seen
    assert later
    snapshot.close()


def test_rows_of_a_transaction_that_ran_across_the_view_are_read_by_the_next(
    source: PostgresSource, database: Database
) -> None:
    """A slot waits for those that ran when it began, twice; one that began in between runs on across the view."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, 0 FROM generate_series(1, 9000) n"
    )
    route = route_of(source)
    first, second, across = (database.connect(autocommit=False) for _ in range(3))
    views: list[PostgresSnapshot] = []
    maker = threading.Thread(target=lambda: views.append(source.snapshot()))

    def waits_for(other: psycopg.Connection) -> None:
        until(
            lambda: database.query(
                "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
                " AND %s = ANY (pg_blocking_pids(pid))",
                [other.info.backend_pid],
            ),
            limit=20,
            what="the slot waits for a transaction",
        )

    first.execute("UPDATE t SET v = 1 WHERE id = 1")
    maker.start()
    waits_for(first)
    second.execute("UPDATE t SET v = 2 WHERE id = 2")
    first.commit()
    waits_for(second)
    across.execute("UPDATE t SET v = 3 WHERE id = 3")
    with across.transaction():
        across.execute("UPDATE t SET v = 4 WHERE id = 4")
    second.commit()
    maker.join(20)
    (view,) = views
    chunks = view.plan(route, [])
    before = dict(line.split(b"\t") for line in lines(view, route, chunks))
    assert [before[key] for key in (b"1", b"2", b"3", b"4")] == [b"1", b"2", b"0", b"0"]
    finished = finish(view, chunks)
    view.close()
    across.commit()
    for other in (first, second, across):
        other.close()
    later = source.snapshot()
    changed = dict(line.split(b"\t") for line in lines(later, route, later.plan(route, finished)))
    assert changed[b"3"] == b"3"
    assert changed[b"4"] == b"4"
    assert len(changed) < 10
    later.close()


def test_a_prepared_transaction_is_read_by_the_view_behind_its_commit(
    source: PostgresSource, database: Database
) -> None:
    if database.value("SHOW max_prepared_transactions") == "0":
        pytest.skip("the server has no prepared transactions")
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, 0 FROM generate_series(1, 9000) n"
    )
    route = route_of(source)
    view = source.snapshot()
    finished = finish(view, view.plan(route, []))
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("UPDATE t SET v = 5 WHERE id = 5")
        other.execute(f"PREPARE TRANSACTION 'p_{database.name}'")
        view.close()
        database.execute("INSERT INTO t SELECT n, 1 FROM generate_series(10001, 10010) n")
        other.execute(f"COMMIT PREPARED 'p_{database.name}'")
    later = source.snapshot()
    changed = dict(line.split(b"\t") for line in lines(later, route, later.plan(route, finished)))
    assert changed[b"5"] == b"5"
    assert len(changed) == 11
    later.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_copy_broken_off_again_and_again_has_every_row_of_its_last_view(
    source: PostgresSource, database: Database, seed: int
) -> None:
    """Inserts, updates that move rows, key changes, savepoints, open and prepared transactions between the views."""
    rng = random.Random(seed)
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int) WITH (autovacuum_enabled = false);"
        "INSERT INTO t SELECT n, 0 FROM generate_series(1, 15000) n"
    )
    target: dict[int, int] = {}
    finished: list[DoneChunk] = []
    held = [database.connect(autocommit=False) for _ in range(3)]
    for turn in range(5):
        for other in held:
            other.commit() if rng.random() < 0.7 else other.rollback()
        for _ in range(rng.randrange(1, 6)):
            _disturb(database, rng, turn)
        snapshot = source.snapshot()
        # Commits before the next view, and so is in this one's future.
        rng.choice(held).execute(f"UPDATE t SET v = v + 1000 WHERE id % {rng.randrange(50, 300)} = 7")
        route = route_of(source)
        planned = snapshot.plan(route, finished)
        rng.shuffle(planned)
        last = turn == 4
        for chunk in planned if last else planned[: rng.randrange(0, len(planned))]:
            for line in lines(snapshot, route, [chunk]):
                key, value = line.split(b"\t")
                target[int(key)] = int(value)
            finished += finish(snapshot, [chunk])
        if last:
            whole = {
                int(k): int(v) for k, v in (x.split(b"\t") for x in lines(snapshot, route, snapshot.plan(route, [])))
            }
            assert {key: target.get(key) for key in whole} == whole
        snapshot.close()
    for other in held:
        other.close()


def _disturb(database: Database, rng: random.Random, turn: int) -> None:
    low = rng.randrange(1, 15000)
    step = rng.randrange(2, 400)
    match rng.randrange(6):
        case 0:
            database.execute(f"UPDATE t SET v = v + 1 WHERE id BETWEEN {low} AND {low + step}")
        case 1:
            database.execute(f"DELETE FROM t WHERE id BETWEEN {low} AND {low + step}")
        case 2:
            start = 20000 + rng.randrange(10**6) * 1000
            database.execute(f"INSERT INTO t SELECT n, {turn} FROM generate_series({start}, {start} + {step}) n")
        case 3:
            database.execute(
                f"BEGIN; SAVEPOINT a; UPDATE t SET v = v + 10 WHERE id % {step} = 0; SAVEPOINT b;"
                f" UPDATE t SET v = v + 100 WHERE id % {step} = 1; ROLLBACK TO b; COMMIT"
            )
        case 4:
            database.execute("VACUUM t" if rng.random() < 0.5 else "VACUUM FREEZE t")
        case 5:
            database.execute(
                f"UPDATE t SET id = id + 500000000 + {turn} * 40000000 WHERE id BETWEEN {low} AND {low + 5}"
            )
