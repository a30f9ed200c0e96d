"""Chunks of the initial copy: what is loaded, what a rejected row is told by, what a retry does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cdcflow.errors import CopyRestart, Fenced, OperatorError, RowRejected, TargetUnavailable
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName
from cdcflow.state import SqlStore, open_store
from cdcflow.targets.postgres.loader import PostgresLoader
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer
from tests.servers.proxy import Proxy

CHUNK = Chunk(7, 0, "0", "128")


@pytest.fixture
def store(target_db: Database) -> Iterator[SqlStore]:
    store = open_store(target_db.url)
    store.migrate()
    store.acquire("shop", {"host": "here"})
    yield store
    store.close()


@pytest.fixture
def loader(store: SqlStore, target_db: Database) -> Iterator[PostgresLoader]:
    loader = PostgresLoader(target_db.url, "shop", 1)
    yield loader
    loader.close()


def route(*columns: str, key: tuple[str, ...] = ("id",), identity: str = "", table: str = "t") -> Route:
    """A route whose column `identity` is GENERATED ALWAYS AS IDENTITY; a column may be written `source>target`."""
    pairs = [tuple(column.split(">")) if ">" in column else (column, column) for column in columns]
    made = tuple(
        Column(source, NativeType("text"), Logical.TEXT, identity="always" if source == identity else "")
        for source, _ in pairs
    )
    source = Table(TableName("shop", "Orders"), 7, made, key)
    return Route(source, TableName("public", table), tuple(zip(made, (to for _, to in pairs), strict=True)), key)


def done(rows: int, size: int, chunk: Chunk = CHUNK) -> DoneChunk:
    return DoneChunk(chunk, "0/5", "token", rows, size)


def test_blocks_are_loaded_and_recorded_together(loader: PostgresLoader, store: SqlStore, target_db: Database) -> None:
    target_db.execute('CREATE TABLE t (id int PRIMARY KEY, "No%te" text)')
    blocks = [b"1\ta\\tb\n2\t\\N\n", b"3\t\n"]
    found = loader.load(route("id", "note>No%te"), CHUNK, blocks, done, merge=False)
    assert found == done(3, 15)
    assert store.chunks("shop", 7) == [found]
    assert target_db.query("SELECT * FROM t ORDER BY id") == [(1, "a\tb"), (2, None), (3, "")]


def test_a_chunk_without_rows_is_recorded(loader: PostgresLoader, store: SqlStore, target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    loader.load(route("id"), CHUNK, [], done, merge=False)
    assert store.chunks("shop", 7) == [done(0, 0)]


def test_columns_go_by_name_whatever_their_order(loader: PostgresLoader, target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (extra text DEFAULT 'x', note text, id int PRIMARY KEY)")
    loader.load(route("id", "note"), CHUNK, [b"1\ta\n"], done, merge=False)
    assert target_db.query("SELECT id, note, extra FROM t") == [(1, "a", "x")]


def test_triggers_and_foreign_keys_are_off(loader: PostgresLoader, target_db: Database) -> None:
    target_db.execute(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY REFERENCES parent);"
        " CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'fired'; END $$;"
        " CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no()"
    )
    loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False)
    assert loader.triggers_off
    assert target_db.value("SELECT count(*) FROM t") == 1


def test_a_role_that_may_not_turn_triggers_off_loads_all_the_same(store: SqlStore, target_db: Database) -> None:
    name = f"loader_{target_db.name}"
    target_db.execute(
        f"CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE {name} LOGIN PASSWORD 'secret';"
        f" GRANT ALL ON t TO {name}; GRANT USAGE ON SCHEMA cdcflow TO {name};"
        f" GRANT ALL ON ALL TABLES IN SCHEMA cdcflow TO {name}"
    )
    loader = PostgresLoader(target_db.server.url(target_db.name, user=name, password="secret"), "shop", 1)
    try:
        loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False)
        assert loader.triggers_off is False
        assert target_db.value("SELECT count(*) FROM t") == 1
    finally:
        loader.close()
        target_db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_merged_rows_overwrite_what_is_there(loader: PostgresLoader, target_db: Database) -> None:
    target_db.execute(
        "CREATE TABLE t (a int, b text, c text, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 'x', 'old')"
    )
    shape = route("c", "b", "a", key=("a", "b"))
    assert loader.load(shape, CHUNK, [b"new\tx\t1\n\\N\ty\t1\n"], done, merge=True).rows == 2
    assert target_db.query("SELECT * FROM t ORDER BY b") == [(1, "x", "new"), (1, "y", None)]


def test_a_table_of_key_columns_only_can_be_merged(loader: PostgresLoader, target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    loader.load(route("id"), CHUNK, [b"1\n2\n"], done, merge=True)
    assert target_db.query("SELECT id FROM t ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("identity", ["id", "number"])
def test_identity_columns_take_the_sources_values(
    merge: bool, identity: str, loader: PostgresLoader, target_db: Database
) -> None:
    always = "int GENERATED ALWAYS AS IDENTITY"
    kinds = {name: always if name == identity else "int" for name in ("id", "number")}
    target_db.execute(f"CREATE TABLE t (id {kinds['id']} PRIMARY KEY, number {kinds['number']}, note text)")
    if merge:
        target_db.execute("INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (5, 6, 'old')")
    loader.load(route("id", "number", "note", identity=identity), CHUNK, [b"5\t50\ta\n9\t90\tb\n"], done, merge=merge)
    assert target_db.query("SELECT * FROM t ORDER BY id") == [(5, 50, "a"), (9, 90, "b")]


def test_several_chunks_are_merged_over_one_connection(loader: PostgresLoader, target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    for number in range(3):
        chunk = Chunk(7, number, "", "")
        loader.load(route("id"), chunk, [b"1\n"], lambda r, b, c=chunk: done(r, b, c), merge=True)  # type: ignore[misc]
    assert target_db.value("SELECT count(*) FROM t") == 1


@pytest.mark.parametrize("key", [("id",), ()])
def test_a_chunk_whose_commit_got_through_unnoticed_is_not_loaded_twice(
    key: tuple[str, ...], loader: PostgresLoader, store: SqlStore, target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t (id int)" if not key else "CREATE TABLE t (id int PRIMARY KEY)")
    first = loader.load(route("id", key=key), CHUNK, [b"1\n"], done, merge=False)
    again = loader.load(route("id", key=key), CHUNK, [b"1\n"], done, merge=False)
    assert again == first
    assert target_db.value("SELECT count(*) FROM t") == 1
    chunk = Chunk(7, 1, "", "")
    loader.load(route("id", key=key), chunk, [b"2\n"], lambda r, b: done(r, b, chunk), merge=False)
    assert len(store.chunks("shop", 7)) == 2


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(
    ("column", "what", "named"),
    [
        ("qty int", "number is out", "column qty"),
        ("qty varchar(3)", "longer", "column qty"),
        ("qty date", "date", "column qty"),
        ("qty text CHECK (length(qty) < 9)", "check", "constraint t_qty_check"),
        ("qty text, must text NOT NULL", "null", "column must"),
    ],
)
def test_a_rejected_row_is_named_by_key_and_column_and_nothing_is_kept(
    merge: bool, column: str, what: str, named: str, loader: PostgresLoader, store: SqlStore, target_db: Database
) -> None:
    target_db.execute(f"CREATE TABLE t (id int PRIMARY KEY, {column})")
    good = b"".join(b"%d\t\\N\n" % number for number in range(5, 17)) if "NOT NULL" not in column else b""
    with pytest.raises(RowRejected, match=what) as caught:
        loader.load(route("id", "qty"), CHUNK, [good, b"17\t98765432109\n18\t\\N\n"], done, merge=merge)
    report = caught.value.report()
    assert "public.t" in report
    assert "shop.Orders" in report
    assert "chunk 0 (0 to 128)" in report
    assert named in report
    assert "98765432109" not in report
    in_copy = not merge or ("column qty" in named and "varchar" not in column)
    assert not in_copy or "key id=17" in report
    assert target_db.value("SELECT count(*) FROM t") == 0
    assert store.chunks("shop", 7) == []


def test_loading_goes_on_after_a_rejected_row(loader: PostgresLoader, target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(RowRejected):
        loader.load(route("id"), CHUNK, [b"x\n"], done, merge=False)
    assert loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False).rows == 1


def test_a_long_copy_with_a_row_that_fails_leaves_nothing_behind(
    loader: PostgresLoader, target_db: Database, store: SqlStore
) -> None:
    """How soon it stops is not asserted: where a send has to wait, libpq reads the server's word by itself."""
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")

    def blocks() -> Iterator[bytes]:
        yield b"1\n1\n"
        for _ in range(200):
            yield b"2\n" * 50_000

    with pytest.raises(RowRejected, match="unique"):
        loader.load(route("id"), CHUNK, blocks(), done, merge=False)
    assert target_db.value("SELECT count(*) FROM t") == 0
    assert loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False).rows == 1


def test_a_failing_source_leaves_nothing_behind(loader: PostgresLoader, store: SqlStore, target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")

    def blocks() -> Iterator[bytes]:
        yield b"1\n"
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        loader.load(route("id"), CHUNK, blocks(), done, merge=False)
    assert target_db.value("SELECT count(*) FROM t") == 0
    assert loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False).rows == 1


def test_a_unique_value_that_moved_between_rows_makes_the_copy_start_over(
    loader: PostgresLoader, target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE); INSERT INTO t VALUES (1, 10)")
    with pytest.raises(CopyRestart) as caught:
        loader.load(route("id", "u"), CHUNK, [b"2\t10\n"], done, merge=True)
    assert "public.t" in caught.value.report()


def test_a_loader_of_an_older_epoch_writes_nothing(
    loader: PostgresLoader, store: SqlStore, target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    store.release()
    store.acquire("shop", {})
    with pytest.raises(Fenced, match="lease"):
        loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False)
    assert target_db.value("SELECT count(*) FROM t") == 0


def test_a_missing_table_is_for_a_person(loader: PostgresLoader) -> None:
    with pytest.raises(OperatorError, match="refused a statement"):
        loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False)


def test_a_cut_connection_is_temporary_and_the_next_load_connects_again(
    store: SqlStore, pg_target: PostgresServer, target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    proxy = Proxy(pg_target)
    loader = PostgresLoader(proxy.through(target_db.url), "shop", 1)

    def cut_in_the_middle() -> Iterator[bytes]:
        yield b"1\n"
        proxy.cut()
        for number in range(2, 200):
            yield b"".join(b"%d\n" % (number * 10_000 + each) for each in range(10_000))

    try:
        with pytest.raises(TargetUnavailable):
            loader.load(route("id"), CHUNK, cut_in_the_middle(), done, merge=False)
        proxy.passing()
        assert loader.load(route("id"), CHUNK, [b"1\n"], done, merge=False).rows == 1
    finally:
        loader.close()
        proxy.close()
    assert target_db.value("SELECT count(*) FROM t") == 1


def test_text_goes_into_a_database_of_another_encoding(
    pg_target: PostgresServer, new_database: Callable[..., Database]
) -> None:
    database = new_database(pg_target, encoding="LATIN1")
    store = open_store(database.url)
    store.migrate()
    store.acquire("shop", {})
    loader = PostgresLoader(database.url, "shop", 1)
    try:
        database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
        loader.load(route("id", "note"), CHUNK, ["1\tÄé\n".encode()], done, merge=False)
        assert database.query("SELECT note FROM t") == [("Äé",)]
        chunk = Chunk(7, 1, "", "")
        with pytest.raises(RowRejected, match="encoding"):
            loader.load(route("id", "note"), chunk, ["2\t€\n".encode()], done, merge=False)
    finally:
        loader.close()
        store.close()
