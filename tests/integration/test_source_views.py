"""Where a view of the source stands in its log, and copies of it that are broken off."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from cdcflow.model.copy import DoneChunk
from cdcflow.sources.postgres import Lsn, PostgresSource
from cdcflow.sources.postgres.config import SnapshotConfig
from cdcflow.sources.postgres.snapshot import PostgresSnapshot
from tests.integration.source_opened import open_source
from tests.integration.source_views import finish, lines, route_of
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
        until(lambda: database.value("SELECT count(*) FROM t") > 300, limit=60, what="the writers write")
        snapshot = source.snapshot()
        count = database.value("SELECT count(*) FROM t")
        until(lambda: database.value("SELECT count(*) FROM t") > count + 300, limit=60, what="the writers go on")
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
            limit=60,
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
    maker.join(60)
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
