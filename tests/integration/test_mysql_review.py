"""The log of MySQL and MariaDB as a stream: where a row could be lost, doubled or stopped at for nothing."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from cdcflow.errors import DecodeError
from cdcflow.model.change import ChangeBatch, Heartbeat, Recopy, Rows
from cdcflow.model.context import Context
from cdcflow.model.ports import Follow
from cdcflow.model.position import Position
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName
from cdcflow.sources.mysql.config import Config
from cdcflow.sources.mysql.source import MysqlSource
from tests.conftest import MakeMysqlDatabase
from tests.servers.commands import PipelineFolder
from tests.servers.database import Database
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer

# InnoDB refuses statements in the log under READ COMMITTED.
AS_TEXT = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET SESSION binlog_format = STATEMENT;"

# How long the stream may take to bring what is waited for.
PATIENCE_SECONDS = 60.0


class Feed:
    """One source, and what its streams bring."""

    def __init__(self, db: MysqlDatabase, memory_bytes: int = 64 << 20) -> None:
        self.db = db
        self.source = MysqlSource(Config(url=db.url), Context("review", memory_bytes, 1000, 1 << 20))

    def route(self, name: str = "t") -> Route:
        table = self.source.describe(TableName(self.db.name, name))
        assert table is not None
        return self.router(table)

    @staticmethod
    def router(table: Table) -> Route:
        columns = tuple((column, column.name) for column in table.columns if not column.generated)
        return Route(table, table.name, columns, table.key)

    def until(
        self, start: Position, follows: Sequence[Follow], what: Callable[[list[ChangeBatch]], bool] | None = None
    ) -> list[ChangeBatch]:
        """Return the batches from `start` until `what` is satisfied, or up to the log's end of now."""
        batches: list[ChangeBatch] = []
        end = self.source.end()
        deadline = time.monotonic() + PATIENCE_SECONDS
        stream = self.source.stream(start, {each.route.source.id: each for each in follows}, self.router)
        try:
            while time.monotonic() < deadline:
                piece = stream.read(0.1)
                if isinstance(piece, ChangeBatch):
                    batches.append(piece)
                whole = isinstance(piece, Heartbeat) or (piece is not None and piece.complete)
                if what(batches) if what else whole and piece is not None and piece.end.covers(end):
                    return batches
        finally:
            stream.close()
        raise AssertionError(f"did not come: {batches}")


def inserted(batches: list[ChangeBatch], name: str = "t") -> list[bytes]:
    """Return the first cells of the new rows of a table."""
    found = []
    for batch in batches:
        for step in batch.steps:
            if isinstance(step, Rows):
                for frame in step.frames.values():
                    if frame.route.source.name.table == name:
                        found += first_cells(frame.after, frame.after_sizes)
    return found


def first_cells(cells: bytes, sizes: bytes) -> list[bytes]:
    found, at = [], 0
    for (size,) in struct.iter_unpack("i", sizes):
        (length,) = struct.unpack_from("i", cells, at)
        found.append(cells[at + 4 : at + 4 + length])
        at += size
    return found


@pytest.fixture(params=["mysql", "mariadb"])
def db(request: pytest.FixtureRequest) -> MysqlDatabase:
    found: MysqlDatabase = request.getfixturevalue(f"{request.param}_source_db")
    return found


@pytest.fixture
def opened() -> Iterator[Callable[..., Feed]]:
    feeds: list[Feed] = []

    def make(db: MysqlDatabase, **options: int) -> Feed:
        feeds.append(Feed(db, **options))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.source.close()


def test_first_rows_of_a_file_count_for_a_table_copied_at_its_head(
    db: MysqlDatabase, opened: Callable[..., Feed]
) -> None:
    """What the server writes for itself between two transactions stands before the copy, and not behind it."""
    db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    feed = opened(db)
    start = feed.source.end()
    db.execute("FLUSH BINARY LOGS")
    copied = feed.source.end()
    assert copied.file != start.file
    db.execute("INSERT INTO t VALUES (1)")
    assert inserted(feed.until(start, [Follow(feed.route(), copied, copied)])) == [b"1"]


def test_statement_before_its_tables_copy_stops_nothing(db: MysqlDatabase, opened: Callable[..., Feed]) -> None:
    """`cdcflow resync` of the table is what the stop asks for, so the stream must get past the statement then."""
    db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    feed = opened(db)
    start = feed.source.end()
    db.execute(f"{AS_TEXT} INSERT INTO t VALUES (1)")
    copied = feed.source.end()
    db.execute("SET SESSION binlog_format = ROW; INSERT INTO t VALUES (2)")
    assert inserted(feed.until(start, [Follow(feed.route(), copied, copied)])) == [b"2"]
    with pytest.raises(DecodeError, match="INSERT"):
        feed.until(start, [Follow(feed.route(), start)])


def test_what_stands_before_a_stop_is_brought(db: MysqlDatabase, opened: Callable[..., Feed]) -> None:
    db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    feed = opened(db)
    start = feed.source.end()
    db.execute(f"INSERT INTO t VALUES (1); {AS_TEXT} INSERT INTO t VALUES (2)")
    found: list[bytes] = []

    def note(batches: list[ChangeBatch]) -> bool:
        found[:] = inserted(batches)
        return False

    with pytest.raises(DecodeError, match="INSERT"):
        feed.until(start, [Follow(feed.route(), start)], note)
    assert found == [b"1"]


def test_large_transaction_that_ends_in_the_word_commit_ends(db: MysqlDatabase, opened: Callable[..., Feed]) -> None:
    """Tables without transactions end theirs so. The last piece may be all of its rows."""
    db.execute("CREATE TABLE t (id int PRIMARY KEY, b longblob) ENGINE=MyISAM")
    feed = opened(db, memory_bytes=16 << 20)
    start = feed.source.end()
    db.execute("INSERT INTO t VALUES (1, REPEAT('x', 3000000))")
    batches = feed.until(start, [Follow(feed.route(), start)])
    assert inserted(batches) == [b"1"]
    assert [batch.complete for batch in batches] == [False, True]


def test_checksums_may_come_and_go(db: MysqlDatabase, opened: Callable[..., Feed]) -> None:
    db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    feed = opened(db)
    start = feed.source.end()
    asked = db.value("SELECT @@global.binlog_checksum")
    seen = 0

    def go_on(batches: list[ChangeBatch]) -> bool:
        nonlocal seen
        if len(inserted(batches)) >= seen:
            seen += 1
            kind = "NONE" if seen % 2 else "CRC32"
            db.execute(f"SET GLOBAL binlog_checksum = {kind}; INSERT INTO t VALUES ({seen})")
        return seen > 4

    try:
        assert inserted(feed.until(start, [Follow(feed.route(), start)], go_on))[:3] == [b"1", b"2", b"3"]
    finally:
        db.execute(f"SET GLOBAL binlog_checksum = {asked}")


def test_ignored_changes_leave_each_column_its_place_also_after_a_restart(
    mysql_source_db: MysqlDatabase,
    target_db: Database,
    new_pipeline: Callable[..., PipelineFolder],
    cdcflow: Callable[..., object],
) -> None:
    """A new name is not a new column, and a column that comes later does not take the place of one that is gone."""
    db = mysql_source_db
    new_pipeline(db, target_db).write_rules({"match": f"{db.name}.*", "schema_changes": "ignore"})
    db.execute("CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int); INSERT INTO t VALUES (1, 1, 1, 1)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    db.execute("ALTER TABLE t CHANGE a z int, DROP c; INSERT INTO t VALUES (2, 2, 2)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    db.execute("INSERT INTO t VALUES (3, 3, 3); ALTER TABLE t ADD d int; INSERT INTO t VALUES (4, 4, 4, 4)")
    db.execute(
        "UPDATE t SET z = 5, d = 5 WHERE id = 1; ALTER TABLE t CHANGE b y int; INSERT INTO t VALUES (6, 6, 6, 6)"
    )
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.query(f'SELECT id, a, b, c FROM "{db.name}".t ORDER BY id') == [
        (1, 5, 1, 1),
        (2, 2, 2, None),
        (3, 3, 3, None),
        (4, 4, 4, None),
        (6, 6, 6, None),
    ]


def test_file_that_was_read_to_its_end_may_be_purged(
    new_mysql_server: Callable[..., MysqlServer], new_mysql_database: MakeMysqlDatabase, opened: Callable[..., Feed]
) -> None:
    for engine in ("mysql", "mariadb"):
        db = new_mysql_database(new_mysql_server(engine), "review")
        db.execute("CREATE TABLE t (id int PRIMARY KEY)")
        feed = opened(db)
        start = feed.source.end()
        db.execute("FLUSH BINARY LOGS")
        now = feed.source.end()
        db.execute(f"INSERT INTO t VALUES (1); PURGE BINARY LOGS TO '{now.file}'")
        assert inserted(feed.until(start, [Follow(feed.route(), start)])) == [b"1"]


@pytest.mark.parametrize(
    "made", ["VIEW v AS SELECT * FROM t", "TRIGGER w AFTER INSERT ON u FOR EACH ROW INSERT INTO t VALUES (new.id)"]
)
def test_statement_that_reaches_a_table_in_a_roundabout_way_stops(
    db: MysqlDatabase, opened: Callable[..., Feed], made: str
) -> None:
    db.execute(f"CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE {made}")
    feed = opened(db)
    start = feed.source.end()
    db.execute(f"{AS_TEXT} INSERT INTO {'v' if 'VIEW' in made else 'u'} VALUES (1)")
    with pytest.raises(DecodeError, match="INSERT"):
        feed.until(start, [Follow(feed.route(), start)])


def test_table_given_up_inside_a_prepared_transaction_is_copied_again_though_it_is_rolled_back(
    db: MysqlDatabase, opened: Callable[..., Feed]
) -> None:
    db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    feed = opened(db)
    start, route = feed.source.end(), feed.route()
    db.execute("SET SESSION sql_log_bin = 0; ALTER TABLE t ADD v int; SET SESSION sql_log_bin = 1")
    with db.connect() as connection, connection.cursor() as cursor:
        for statement in ("XA START 'r'", "INSERT INTO t VALUES (1, 1)", "XA END 'r'", "XA PREPARE 'r'"):
            cursor.execute(statement)
    db.execute("XA ROLLBACK 'r'")
    batches = feed.until(start, [Follow(route, start)])
    assert [type(step) for batch in batches for step in batch.steps] == [Recopy]


def test_table_that_is_opened_again_and_again_keeps_its_frame(db: MysqlDatabase, opened: Callable[..., Feed]) -> None:
    db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    feed = opened(db)
    start = feed.source.end()
    for number in range(5):
        db.execute(f"INSERT INTO t VALUES ({number}); FLUSH TABLES")
    batches = feed.until(start, [Follow(feed.route(), start)])
    assert inserted(batches) == [b"0", b"1", b"2", b"3", b"4"]
    assert (
        len({number for batch in batches for step in batch.steps if isinstance(step, Rows) for number in step.frames})
        == 1
    )


def test_domains_that_another_server_logged_in_another_order_are_each_gone_on_with(
    new_mysql_server: Callable[..., MysqlServer], opened: Callable[..., Feed]
) -> None:
    """Right after a failover: the first server had the rows 1, 10, 2, and the other one logs 1, 10, 11, 2."""
    servers = [new_mysql_server("mariadb", settings={"log-slave-updates": "1"}) for _ in range(2)]
    for server in servers:
        server.query("RESET MASTER; CREATE DATABASE shop; RESET MASTER")

    def write(server: MysqlServer, domain: int, number: int, statement: str) -> None:
        # The number is checked for the domain and the server that are set by then.
        who = f"SET SESSION gtid_domain_id = {domain}, SESSION server_id = 7"
        server.query(f"{who}; SET SESSION gtid_seq_no = {number}; {statement}")

    make, first, ten, eleven, second, third = (
        (0, 1, "CREATE TABLE shop.t (id int PRIMARY KEY)"),
        (0, 2, "INSERT INTO shop.t VALUES (1)"),
        (1, 1, "INSERT INTO shop.t VALUES (10)"),
        (1, 2, "INSERT INTO shop.t VALUES (11)"),
        (0, 3, "INSERT INTO shop.t VALUES (2)"),
        (0, 4, "INSERT INTO shop.t VALUES (3)"),
    )
    for each in (make, first, ten, second):
        write(servers[0], *each)
    for each in (make, first, ten, eleven, second):
        write(servers[1], *each)
    before, after = (opened(MysqlDatabase(server, "shop")) for server in servers)
    start = before.source.end()
    batches = after.until(start, [Follow(after.route(), start)], lambda found: bool(inserted(found)))
    assert inserted(batches) == [b"11"]
    write(servers[1], *third)
    place = after.source.parse(str(batches[-1].end))
    batches = after.until(place, [Follow(after.route(), start)], lambda found: bool(inserted(found)))
    assert inserted(batches) == [b"3"]
    # From here on the place is exact again, and a log that is made anew is noticed by it.
    place = after.source.parse(str(batches[-1].end))
    assert after.source._placed(place, after.source.identity()["server"]).server == after.source.identity()["server"]
