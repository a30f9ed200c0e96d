"""The state in PostgreSQL: leases of instances that die or wake up, privileges, revisions, the fence in SQL."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import pq

from cdcflow.engines.postgres.connect import connect_raw
from cdcflow.errors import AccessDenied, Fenced, OperatorError, TargetUnavailable
from cdcflow.model.copy import Chunk, DoneChunk, TableRecord, TableState
from cdcflow.model.position import Checkpoint
from cdcflow.model.schema import TableName
from cdcflow.state import SqlStore, engines, lease, open_store
from cdcflow.state.migrate import REVISIONS, scripts
from cdcflow.state.tables import SCHEMA, SERVER
from cdcflow.targets.sql.bookkeeping import ADVANCE, FENCE, RECORD_CHUNK, advance_parameters, chunk_parameters
from tests.conftest import MakeDatabase
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.waiting import until

OWNER = {"host": "here", "pid": "1"}
TABLE = TableRecord(1, TableName("a", "b"), TableName("a", "b"), TableState.LIVE)

HOLDER = """
import sys, time
from cdcflow.state import open_store
store = open_store(sys.argv[1])
store.migrate()
print(store.acquire("shop", {"host": "holder"}), flush=True)
time.sleep(600)
"""


@pytest.fixture
def stores() -> Iterator[Callable[[str], SqlStore]]:
    """Opens stores that are closed at the end."""
    opened: list[SqlStore] = []

    def make(url: str) -> SqlStore:
        opened.append(open_store(url))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(stores: Callable[[str], SqlStore], target_db: Database) -> SqlStore:
    store = stores(target_db.url)
    store.migrate()
    return store


@pytest.fixture
def holder(target_db: Database) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease with epoch 1."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, target_db.url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "1"
    yield process
    process.kill()
    process.wait()


def test_a_lease_is_taken_over_at_once_from_a_killed_process(
    holder: subprocess.Popen[str], stores: Callable[[str], SqlStore], target_db: Database
) -> None:
    holder.send_signal(signal.SIGKILL)
    assert stores(target_db.url).acquire("shop", OWNER) == 2


def test_a_lease_is_not_taken_from_a_paused_process(
    holder: subprocess.Popen[str],
    stores: Callable[[str], SqlStore],
    target_db: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.3)
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(Fenced, match='"shop" is running') as caught:
        stores(target_db.url).acquire("shop", OWNER)
    assert "host holder" in caught.value.why


def test_a_lease_survives_its_session_when_nobody_came_between(store: SqlStore, target_db: Database) -> None:
    epoch = store.acquire("shop", OWNER)
    end_sessions(target_db)
    assert store.held()
    store.put("shop", epoch, [TABLE])


def test_an_instance_whose_session_ended_learns_that_another_took_over(
    store: SqlStore, stores: Callable[[str], SqlStore], target_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.3)
    epoch = store.acquire("shop", OWNER)
    end_sessions(target_db)
    other = stores(target_db.url)
    other.acquire("shop", OWNER)
    assert not store.held()
    assert not store.held()
    other.release()
    assert not store.held()
    with pytest.raises(Fenced):
        store.save(Checkpoint("shop", "0/1", {}, epoch))


def test_an_instance_learns_of_a_successor_that_is_gone_again(
    store: SqlStore, stores: Callable[[str], SqlStore], target_db: Database
) -> None:
    store.acquire("shop", OWNER)
    end_sessions(target_db)
    other = stores(target_db.url)
    other.acquire("shop", OWNER)
    other.close()
    assert not store.held()


def test_a_transaction_whose_client_is_gone_without_a_word_does_not_keep_the_next_instance_out(
    store: SqlStore, stores: Callable[[str], SqlStore], target_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_SILENT_SECONDS", 2)
    store.acquire("shop", OWNER)
    store.release()
    with engines.postgres_engine(target_db.url).connect() as silent:
        silent.execute(sa.text("SELECT epoch FROM cdcflow.checkpoints FOR KEY SHARE"))
        assert stores(target_db.url).acquire("shop", OWNER) == 2
        silent.invalidate()


def test_a_lease_outlives_a_restart_of_the_server(
    new_server: Callable[..., PostgresServer], stores: Callable[[str], SqlStore]
) -> None:
    server = new_server(18)
    store = stores(server.url())
    store.migrate()
    store.acquire("shop", OWNER)
    server.stop()
    with pytest.raises(TargetUnavailable):
        store.held()
    server.start()
    assert store.held()
    server.restart()
    assert store.acquire("shop", OWNER) == 2
    assert store.held()


def test_a_lease_is_had_back_by_another_way_from_our_own_session_that_the_server_still_sees(
    pg_target: PostgresServer, target_db: Database, stores: Callable[[str], SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf, works = Proxy(pg_target), Proxy(pg_target)
    try:
        both = f"127.0.0.1:{deaf.port},127.0.0.1:{works.port}"
        store = stores(deaf.through(target_db.url).replace(f"127.0.0.1:{deaf.port}", both) + "?connect_timeout=2")
        store.migrate()
        epoch = store.acquire("shop", OWNER)
        monkeypatch.setattr(lease, "ANSWER_SECONDS", 3.0)
        deaf.hang()
        assert store.held()
        store.put("shop", epoch, [TABLE])
    finally:
        deaf.close()
        works.close()


def test_a_new_lease_waits_for_the_transaction_that_its_predecessor_is_committing(
    store: SqlStore, stores: Callable[[str], SqlStore], target_db: Database
) -> None:
    epoch = store.acquire("shop", OWNER)
    with target_db.connect(autocommit=False) as zombie:
        zombie.execute("SELECT cdcflow.advance('shop', %s, '0/7')", [epoch])
        store.release()
        found: list[int] = []
        successor = stores(target_db.url)
        thread = threading.Thread(target=lambda: found.append(successor.acquire("shop", OWNER)))
        thread.start()
        until(lambda: waits_for_a_lock(target_db), what="the new lease waits")
        assert not found
        zombie.commit()
        thread.join(60)
    assert found == [epoch + 1]
    seen = successor.checkpoint("shop")
    assert seen is not None
    assert seen.position == "0/7"


def test_a_new_lease_waits_for_a_chunk_that_its_predecessor_is_committing(
    store: SqlStore, stores: Callable[[str], SqlStore], target_db: Database
) -> None:
    epoch = store.acquire("shop", OWNER)
    with target_db.connect(autocommit=False) as zombie:
        zombie.execute("SELECT cdcflow.fence('shop', %s)", [epoch])
        store.release()
        successor = stores(target_db.url)
        thread = threading.Thread(target=lambda: successor.acquire("shop", OWNER))
        thread.start()
        until(lambda: waits_for_a_lock(target_db), what="the new lease waits")
        zombie.commit()
        thread.join(60)
    assert successor.held()


def test_a_batch_is_committed_while_a_chunk_is_being_recorded(store: SqlStore, target_db: Database) -> None:
    epoch = store.acquire("shop", OWNER)
    with target_db.connect(autocommit=False) as loader, target_db.connect(autocommit=False) as applier:
        loader.execute("SELECT cdcflow.fence('shop', %s)", [epoch])
        applier.execute("SET LOCAL lock_timeout = '2s'")
        applier.execute("SELECT cdcflow.advance('shop', %s, '0/7')", [epoch])
        applier.commit()
        loader.commit()


def test_a_zombies_pipelined_batch_with_its_commit_behind_it_changes_nothing(
    store: SqlStore, target_db: Database
) -> None:
    epoch = store.acquire("shop", OWNER)
    target_db.execute("CREATE TABLE t (a int)")
    store.release()
    store.acquire("shop", OWNER)
    states = pipelined(
        target_db.url, "INSERT INTO public.t VALUES (1)", ADVANCE, advance_parameters("shop", epoch, "0/9")
    )
    assert "CDC01" in states
    assert target_db.value("SELECT count(*) FROM t") == 0
    seen = store.checkpoint("shop")
    assert seen is not None
    assert seen.position == ""


def test_a_batch_and_its_position_commit_together(store: SqlStore, target_db: Database) -> None:
    epoch = store.acquire("shop", OWNER)
    target_db.execute("CREATE TABLE t (a int)")
    states = pipelined(
        target_db.url, "INSERT INTO public.t VALUES (1)", ADVANCE, advance_parameters("shop", epoch, "0/9")
    )
    assert states == []
    seen = store.checkpoint("shop")
    assert seen is not None
    assert seen.position == "0/9"
    assert target_db.value("SELECT count(*) FROM t") == 1


def test_a_removed_checkpoint_stops_writers(store: SqlStore, target_db: Database) -> None:
    epoch = store.acquire("shop", OWNER)
    target_db.execute("DELETE FROM cdcflow.checkpoints")
    for statement, values in (
        (ADVANCE, advance_parameters("shop", epoch, "0/9")),
        (FENCE, advance_parameters("shop", epoch, "")[:2]),
        (RECORD_CHUNK, chunk_parameters("shop", epoch, DoneChunk(Chunk(1, 0, "0", "9"), "0/1", "t", 1, 2))),
    ):
        assert pipelined(target_db.url, "SELECT 1", statement, values) == ["CDC01"]


def test_recorded_chunks_come_back_by_number(store: SqlStore, target_db: Database) -> None:
    epoch = store.acquire("shop", OWNER)
    done = [DoneChunk(Chunk(1, number, str(number), "", "x'y"), "0/1", "t:%", 5, 6) for number in (2, 0, 10)]
    for each in done:
        assert pipelined(target_db.url, "SELECT 1", RECORD_CHUNK, chunk_parameters("shop", epoch, each)) == []
    assert store.chunks("shop", 1) == sorted(done, key=lambda each: each.chunk.number)
    store.drop("shop", epoch, [1])
    assert store.chunks("shop", 1) == []


def test_a_role_that_may_not_make_the_schema_is_told_the_grant(
    target_db: Database, stores: Callable[[str], SqlStore]
) -> None:
    with role(target_db) as (name, url):
        with pytest.raises(AccessDenied) as caught:
            stores(url).migrate()
        assert caught.value.do == f'GRANT CREATE ON DATABASE "{target_db.name}" TO "{name}"'
        assert caught.value.exit_code == 5
        target_db.execute(caught.value.do)
        stores(url).migrate()


def test_a_schema_made_beforehand_is_enough_for_a_role_without_create(
    target_db: Database, stores: Callable[[str], SqlStore]
) -> None:
    with role(target_db) as (name, url):
        target_db.execute("CREATE SCHEMA cdcflow")
        with pytest.raises(AccessDenied) as caught:
            stores(url).migrate()
        assert caught.value.do == f'GRANT USAGE, CREATE ON SCHEMA "cdcflow" TO "{name}"'
        target_db.execute(caught.value.do)
        store = stores(url)
        store.migrate()
        store.migrate()
        assert store.acquire("shop", OWNER) == 1


def test_tables_of_a_newer_version_are_left_alone(
    store: SqlStore, target_db: Database, stores: Callable[[str], SqlStore]
) -> None:
    target_db.execute("UPDATE cdcflow.alembic_version SET version_num = '9999'")
    with pytest.raises(OperatorError, match="newer cdcflow") as caught:
        stores(target_db.url).migrate()
    assert "9999" in caught.value.why
    assert "upgrade" in caught.value.do


def test_nothing_is_written_when_the_tables_are_up_to_date(store: SqlStore, target_db: Database) -> None:
    def nothing() -> bool:
        before = target_db.value("SELECT pg_current_xact_id()::text::bigint")
        store.migrate()
        return bool(target_db.value("SELECT pg_current_xact_id()::text::bigint") == before + 1)

    until(nothing, what="it takes no transaction, and the rest of the server none in between")


@pytest.mark.parametrize("version", [14, 15, 17])
def test_the_state_works_on_older_servers(
    version: int, pg: Callable[..., PostgresServer], new_database: MakeDatabase, stores: Callable[[str], SqlStore]
) -> None:
    database = new_database(pg(version))
    store = stores(database.url)
    store.migrate()
    epoch = store.acquire("shop", OWNER)
    store.put("shop", epoch, [TABLE])
    assert pipelined(database.url, "SELECT 1", ADVANCE, advance_parameters("shop", epoch, "0/9")) == []
    assert "CDC01" in pipelined(database.url, "SELECT 1", ADVANCE, advance_parameters("shop", epoch + 1, "0/9"))


def test_the_state_works_in_a_database_of_another_encoding(
    pg_target: PostgresServer, new_database: MakeDatabase, stores: Callable[[str], SqlStore]
) -> None:
    store = stores(new_database(pg_target, encoding="LATIN1").url)
    store.migrate()
    epoch = store.acquire("shop", OWNER)
    named = TableRecord(1, TableName("é", "ü"), TableName("é", "ü"), TableState.LIVE)
    store.put("shop", epoch, [named])
    assert store.tables("shop") == {1: named}


def test_the_revisions_that_the_code_knows_are_the_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    files = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(files)) == REVISIONS


@pytest.mark.usefixtures("store")
def test_the_tables_in_code_are_the_tables_that_migrations_make(target_db: Database) -> None:
    with psycopg_engine(target_db).connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "version_table_schema": SCHEMA,
                "include_name": lambda name, kind, parents: kind != "schema" or name == SCHEMA,
            },
        )
        assert compare_metadata(context, SERVER.metadata) == []


def psycopg_engine(database: Database) -> sa.Engine:
    return sa.create_engine("postgresql+psycopg://", creator=database.connect, poolclass=sa.NullPool)


def end_sessions(database: Database) -> None:
    """End every session of cdcflow in the database, and wait until they are gone."""
    theirs = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'cdcflow%'"
    database.query(f"SELECT pg_terminate_backend(pid) {theirs}")
    until(lambda: database.value(f"SELECT count(*) {theirs}") == 0, what="the sessions are gone")


def waits_for_a_lock(database: Database) -> bool:
    return bool(
        database.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND application_name = 'cdcflow state'"
        )
    )


def pipelined(url: str, first: str, second: str, parameters: list[bytes]) -> list[str]:
    """Send BEGIN, both statements and COMMIT without waiting; return the SQLSTATEs of what failed."""
    pgconn = connect_raw(url, side="target")
    try:
        pgconn.enter_pipeline_mode()
        for statement, values in ((b"BEGIN", []), (first.encode(), []), (second.encode(), parameters), (b"COMMIT", [])):
            pgconn.send_query_params(statement, values)
        pgconn.pipeline_sync()
        states = []
        while True:
            result = pgconn.get_result()
            if result is None:
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return states
            if result.status == pq.ExecStatus.FATAL_ERROR:
                states.append((result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode())
    finally:
        pgconn.finish()


@contextmanager
def role(database: Database) -> Iterator[tuple[str, str]]:
    """A role without privileges in a database, and the URL for it; removed with what it owns."""
    name = f"role_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    try:
        yield name, database.server.url(database.name, user=name, password="secret")
    finally:
        database.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
