"""The state in MySQL and MariaDB: leases of instances that die or wake up, the fence, migrations that broke off."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cdcflow.engines.mysql.locks import lease_name, writer_name
from cdcflow.errors import AccessDenied, Fenced, TargetUnavailable
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.position import Checkpoint
from cdcflow.model.schema import TableName
from cdcflow.state import SqlStore, engines, lease, open_store
from cdcflow.state.migrate import REVISIONS
from cdcflow.state.tables import SCHEMA, SERVER
from cdcflow.targets.mysql.bookkeeping import MAKE_PARTIAL, set_partial
from tests.integration.test_state import HOLDER
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_session import connect_to, rows
from tests.servers.proxy import Proxy
from tests.servers.waiting import until

OWNER = {"host": "here", "pid": "1"}
TABLE = TableRecord(1, TableName("a", "b"), TableName("a", "b"), TableState.LIVE)
ADVANCE = "UPDATE cdcflow.checkpoints SET position = %s WHERE pipeline = 'shop' AND epoch = %s"

Stores = Callable[[str], SqlStore]


@pytest.fixture(params=["mysql", "mariadb"])
def target(request: pytest.FixtureRequest) -> Iterator[MysqlDatabase]:
    """A fresh database of a server without state."""
    database: MysqlDatabase = request.getfixturevalue(f"{request.param}_target_db")
    database.execute("DROP DATABASE IF EXISTS cdcflow")
    yield database
    database.execute("DROP DATABASE IF EXISTS cdcflow")


@pytest.fixture
def stores() -> Iterator[Stores]:
    """Opens stores that are closed at the end."""
    opened: list[SqlStore] = []

    def make(url: str) -> SqlStore:
        opened.append(open_store(url))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(stores: Stores, target: MysqlDatabase) -> SqlStore:
    store = stores(target.url)
    store.migrate()
    return store


@pytest.fixture
def holder(target: MysqlDatabase) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease with epoch 1."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, target.url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "1"
    yield process
    process.kill()
    process.wait()


def test_a_lease_is_taken_over_at_once_from_a_killed_process(
    holder: subprocess.Popen[str], stores: Stores, target: MysqlDatabase
) -> None:
    holder.send_signal(signal.SIGKILL)
    assert stores(target.url).acquire("shop", OWNER) == 2


def test_a_lease_is_not_taken_from_a_paused_process(
    holder: subprocess.Popen[str], stores: Stores, target: MysqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.3)
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(Fenced, match='"shop" is running') as caught:
        stores(target.url).acquire("shop", OWNER)
    assert "host holder" in caught.value.why


def test_a_transaction_whose_client_is_gone_without_a_word_does_not_keep_the_next_instance_out(
    store: SqlStore, stores: Stores, target: MysqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_SILENT_SECONDS", 2)
    store.acquire("shop", OWNER)
    store.release()
    with engines.mysql_engine(target.url).connect() as silent:
        silent.execute(sa.text("SELECT epoch FROM cdcflow.checkpoints FOR UPDATE"))
        assert stores(target.url).acquire("shop", OWNER) == 2
        silent.invalidate()


def test_a_lease_survives_its_session_when_nobody_came_between(store: SqlStore, target: MysqlDatabase) -> None:
    epoch = store.acquire("shop", OWNER)
    end_lease(target)
    assert store.held()
    store.put("shop", epoch, [TABLE])


def test_an_instance_whose_session_ended_learns_that_another_took_over(
    store: SqlStore, stores: Stores, target: MysqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.3)
    epoch = store.acquire("shop", OWNER)
    end_lease(target)
    other = stores(target.url)
    other.acquire("shop", OWNER)
    assert not store.held()
    other.release()
    assert not store.held()
    with pytest.raises(Fenced):
        store.save(Checkpoint("shop", "0/1", {}, epoch))


def test_a_lease_outlives_a_restart_of_the_server(new_mysql_server: Callable[..., MysqlServer], stores: Stores) -> None:
    server = new_mysql_server("mysql")
    store = stores(server.url())
    store.migrate()
    store.acquire("shop", OWNER)
    server.stop()
    with pytest.raises(TargetUnavailable):
        store.held()
    server.start()
    assert store.held()
    assert store.acquire("shop", OWNER) == 2


def test_a_lease_behind_a_deaf_connection_is_had_back_from_our_own_session(
    target: MysqlDatabase, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "ANSWER_SECONDS", 3.0)
    line = Proxy(target.server)
    try:
        store = stores(line.through(target.url) + "?connect_timeout=2")
        store.migrate()
        epoch = store.acquire("shop", OWNER)
        line.hang()
        with pytest.raises(TargetUnavailable):
            store.held()
        line.passing()
        assert store.held()
        store.put("shop", epoch, [TABLE])
    finally:
        line.close()


def test_a_new_lease_waits_for_the_transaction_that_its_predecessor_is_committing(
    store: SqlStore, stores: Stores, target: MysqlDatabase
) -> None:
    epoch = store.acquire("shop", OWNER)
    zombie = connect_to(target.url, autocommit=False)
    rows(zombie, ADVANCE, ("0/7", epoch))
    store.release()
    found: list[int] = []
    successor = stores(target.url)
    thread = threading.Thread(target=lambda: found.append(successor.acquire("shop", OWNER)))
    thread.start()
    thread.join(1)
    assert not found
    zombie.commit()
    thread.join(60)
    zombie.close()
    assert found == [epoch + 1]
    seen = successor.checkpoint("shop")
    assert seen is not None
    assert seen.position == "0/7"


def test_a_zombies_batch_finds_no_row_to_advance(store: SqlStore, target: MysqlDatabase) -> None:
    epoch = store.acquire("shop", OWNER)
    store.acquire("shop", OWNER)
    zombie = connect_to(target.url, autocommit=False)
    with zombie.cursor() as cursor:
        assert cursor.execute(ADVANCE, ("0/7", epoch)) == 0
        assert cursor.execute(ADVANCE, ("0/7", epoch + 1)) == 1
    zombie.close()


def test_a_writer_that_was_left_in_a_transaction_is_ended_by_the_next_instance(
    store: SqlStore, stores: Stores, target: MysqlDatabase
) -> None:
    epoch = store.acquire("shop", OWNER)
    zombie = connect_to(target.url, autocommit=False)
    rows(zombie, "SELECT GET_LOCK(%s, 0)", (writer_name("shop"),))
    rows(zombie, ADVANCE, ("0/7", epoch))
    store.release()
    assert stores(target.url).acquire("shop", OWNER) == epoch + 1
    found = store.checkpoint("shop")
    assert found is not None
    assert found.position == ""
    zombie.close()


@pytest.mark.parametrize("left", ["nothing", "a table", "all but the revision", "the first revision"])
def test_a_migration_that_broke_off_goes_on_where_it_ended(
    store: SqlStore, stores: Stores, target: MysqlDatabase, left: str
) -> None:
    names = [str(row[0]) for row in target.query("SELECT table_name FROM information_schema.tables"
                                                 " WHERE table_schema = 'cdcflow'")]  # fmt: skip
    gone = {
        "nothing": names,
        "a table": [name for name in names if name != "checkpoints"],
        "all but the revision": ["alembic_version"],
        "the first revision": [],
    }[left]
    for name in gone:
        target.execute(f"DROP TABLE cdcflow.`{name}`")
    if left == "the first revision":
        target.execute(f"UPDATE cdcflow.alembic_version SET version_num = '{REVISIONS[0]}'")
    again = stores(target.url)
    again.migrate()
    epoch = again.acquire("shop", OWNER)
    again.put("shop", epoch, [TABLE])
    assert again.tables("shop") == {1: TABLE}


def test_what_the_target_wrote_of_a_part_of_a_batch_goes_with_the_pipeline(
    store: SqlStore, target: MysqlDatabase
) -> None:
    target.execute(MAKE_PARTIAL)
    for pipeline in ("shop", "stock"):
        target.execute(set_partial(pipeline, "0/1", {1: 2}))
    store.forget("shop")
    assert target.query("SELECT pipeline FROM cdcflow.partial_batches") == [("stock",)]


@pytest.mark.usefixtures("store")
def test_the_tables_in_code_are_the_tables_that_migrations_make(target: MysqlDatabase) -> None:
    engine = sa.create_engine("mysql+pymysql://", creator=lambda: connect_to(target.url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "version_table_schema": SCHEMA,
                "include_name": lambda name, kind, parents: kind != "schema" or name == SCHEMA,
            },
        )
        found = compare_metadata(context, SERVER.metadata)
    # MariaDB's JSON is a text, and both say that a Boolean is a small number.
    assert [each for each in found if "modify_type" not in str(each)] == []


def test_a_user_that_may_not_make_the_database_is_told_the_grant(target: MysqlDatabase, stores: Stores) -> None:
    user = f"user_of_{target.name}"
    target.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'secret'")
    try:
        url = target.server.url(target.name, user=user, password="secret")
        target.execute(f"GRANT ALL ON `{target.name}`.* TO {user}@'%'")
        with pytest.raises(AccessDenied) as caught:
            stores(url).migrate()
        assert "GRANT" in caught.value.do
        target.execute(f"GRANT ALL ON cdcflow.* TO {user}@'%'")
        store = stores(url)
        store.migrate()
        assert store.acquire("shop", OWNER) == 1
    finally:
        target.execute(f"DROP USER {user}@'%'")


def end_lease(database: MysqlDatabase) -> None:
    """End the session that holds the lease, and wait until it is gone."""
    holder = database.query(f"SELECT IS_USED_LOCK('{lease_name('shop')}')")[0][0]
    database.execute(f"KILL {holder}")
    free = f"SELECT IS_FREE_LOCK('{lease_name('shop')}')"
    until(lambda: database.query(free)[0][0] == 1, what="the session is gone")
