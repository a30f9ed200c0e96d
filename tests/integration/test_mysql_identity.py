"""Who a MySQL or MariaDB source is, where its log ends, and whether it can go on from a checkpoint."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pymysql
import pytest
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour, connect, flavour
from cdcflow.engines.mysql.errors import translate
from cdcflow.errors import CdcflowError, OperatorError, PositionLost, SourceChanged
from cdcflow.sources.mysql import identity
from cdcflow.sources.mysql.catalog import tables
from cdcflow.sources.mysql.gtids import MariadbGtids, MysqlGtids
from cdcflow.sources.mysql.log_end import log_files, mariadb_gtids_at, rows
from cdcflow.sources.mysql.position import Binlog
from tests.servers.mysql_server import MysqlServer
from tests.servers.waiting import until

MakeServer = Callable[..., MysqlServer]
SERVERS = [("mysql", "9.7"), ("mysql", "8.0"), ("mariadb", "11.8"), ("mariadb", "11.4")]

PREVIOUS_GTIDS, COM_BINLOG_DUMP_GTID = 35, 0x1E


@pytest.fixture(params=SERVERS, ids=lambda each: "-".join(each))
def server(request: pytest.FixtureRequest, new_mysql_server: MakeServer) -> MysqlServer:
    """A server of this test alone, with a table."""
    return prepared(new_mysql_server(*request.param))


def prepared(server: MysqlServer) -> MysqlServer:
    server.start()
    server.query("CREATE DATABASE shop")
    server.query("CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, n INT)")
    return server


class Asked:
    """One connection to a server, and what cdcflow asks it."""

    def __init__(self, server: MysqlServer) -> None:
        self.server = server
        self.connection: Connection[Any] = connect(server.url(), side="source")
        self.flavour: Flavour = flavour(self.connection)

    def identity(self) -> dict[str, str]:
        return identity.identity(self.connection, self.flavour)

    def end(self) -> Binlog:
        return identity.end_position(self.connection, self.flavour)

    def start(self) -> Binlog:
        return identity.start_position(self.connection, self.flavour)

    def resume(self, position: Binlog, before: dict[str, str] | None = None) -> None:
        now = self.identity()
        identity.compare(self.connection, self.flavour, now if before is None else before, now, position, "source x")

    def refused(self, position: Binlog, before: dict[str, str] | None = None) -> CdcflowError:
        with pytest.raises(CdcflowError) as caught:
            self.resume(position, before)
        assert caught.value.exit_code == 5
        assert caught.value.at == "source x"
        assert "cdcflow resync --all" in caught.value.do
        return caught.value


@pytest.fixture
def ask() -> Iterator[Callable[[MysqlServer], Asked]]:
    made: list[Asked] = []

    def one(server: MysqlServer) -> Asked:
        made.append(Asked(server))
        return made[-1]

    yield one
    for each in made:
        if each.connection.open:
            each.connection.close()


Ask = Callable[[MysqlServer], Asked]


def insert(server: MysqlServer, times: int = 1) -> None:
    for _ in range(times):
        server.query("INSERT INTO shop.t (n) VALUES (1)")


def reset(server: MysqlServer) -> None:
    newer = server.flavour == "mysql" and server.version > "8.2"
    server.query("RESET BINARY LOGS AND GTIDS" if newer else "RESET MASTER")


def purge(server: MysqlServer) -> None:
    if server.flavour == "mariadb":  # it would keep what no replica has read
        server.query("SET GLOBAL slave_connections_needed_for_purge = 0")
    server.query("FLUSH BINARY LOGS")
    newest = server.query("SHOW BINARY LOGS")[-1][0]

    def purged() -> bool:
        """MariaDB keeps a file until what is in it is safe in the tables."""
        server.query(f"PURGE BINARY LOGS TO '{newest}'")
        return bool(server.query("SHOW BINARY LOGS")[0][0] == newest)

    until(purged, limit=60, what="older files are gone")


def test_identity_names_the_server_and_stays_over_a_restart(server: MysqlServer, ask: Ask):
    before = ask(server).identity()
    assert before["engine"] == server.flavour
    assert before["version"].startswith(server.version)
    assert before["gtid_mode"] == "ON"
    server.restart()
    assert ask(server).identity() == before


def test_end_covers_what_was_committed_and_no_more(server: MysqlServer, ask: Ask):
    one = ask(server)
    first = one.end()
    assert Binlog.parse(str(first)) == first
    insert(server)
    second = one.end()
    assert second.covers(first)
    assert not first.covers(second)
    assert second.server == first.server == one.identity()["server"]
    server.query("FLUSH BINARY LOGS")
    third = one.end()
    assert third.covers(second)
    assert not second.covers(third)
    sized = replace(third, sizes=log_files(one.connection))
    assert (sized.distance(first) or 0) > 0
    assert third.distance(first) is None


def test_start_has_exactly_the_transactions_before_its_offset(server: MysqlServer, ask: Ask):
    """Under four writers, against what the server itself finds when it reads its log up to there."""
    stop = threading.Event()

    def write() -> None:
        with connect(server.url(), side="target") as connection:
            while not stop.is_set():
                connection.cursor().execute("INSERT INTO shop.t (n) VALUES (1)")

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        one, found = ask(server), set()
        until(lambda: found.add(one.start()) or len(found) > 15, what="the log moves")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    for position in found:
        if isinstance(position.gtids, MariadbGtids):
            assert position.gtids == mariadb_gtids_at(one.connection, position.file, position.offset)
            continue
        logged = MysqlGtids()
        for event in rows(one.connection, f"SHOW BINLOG EVENTS IN '{position.file}'"):
            if event[2] == "Gtid" and event[1] < position.offset:
                uuid, _, number = event[5].partition("'")[2].rstrip("'").rpartition(":")
                logged = logged.add(uuid, int(number))
        assert position.gtids == logged


def test_checkpoint_that_the_log_still_holds_is_gone_on_from(server: MysqlServer, ask: Ask):
    insert(server)
    position = ask(server).start()
    ask(server).resume(position)
    insert(server, 3)
    ask(server).resume(position)
    server.restart("kill")
    ask(server).resume(position)
    assert ask(server).end().covers(position)


def test_user_who_may_only_replicate_finds_the_end_and_goes_on(server: MysqlServer):
    insert(server)
    client = "REPLICATION CLIENT" if server.flavour == "mysql" else "BINLOG MONITOR"
    url = server.create_user("repl", "p", [f"REPLICATION SLAVE, {client} ON *.*", "SELECT ON shop.*"])
    with connect(url, side="source") as connection:
        kind = flavour(connection)
        now = identity.identity(connection, kind)
        position = identity.start_position(connection, kind)
        assert identity.end_position(connection, kind) == position
        identity.compare(connection, kind, now, now, position, "source x")
        assert identity.log_files(connection)[position.file] == position.offset
        assert [table.name.table for table in tables(connection, kind)] == ["t"]


def test_purged_log_that_was_read_is_no_loss_and_one_that_was_not_is(server: MysqlServer, ask: Ask):
    insert(server)
    early = ask(server).start()
    insert(server, 2)
    late = ask(server).start()
    purge(server)
    ask(server).resume(late)  # its file is gone, and nothing in it was ours to read
    error = ask(server).refused(early)
    assert type(error) is PositionLost
    missing = f"{late.gtids}".rpartition(":")[2] if server.flavour == "mysql" else str(late.gtids)
    assert missing.split("-")[-1] in error.what
    assert "purged" in error.why


def test_log_that_was_reset_is_noticed(server: MysqlServer, ask: Ask):
    insert(server, 3)
    position = ask(server).start()
    reset(server)
    error = ask(server).refused(position)
    assert type(error) is PositionLost
    assert "reset" in error.why
    insert(server)
    ask(server).refused(position)
    # Now its numbers go past ours again, and what they stand for is something else.
    for _ in range(8):
        server.query("INSERT INTO shop.t (n) VALUES (1), (2), (3)")
    error = ask(server).refused(position)
    assert type(error) is PositionLost
    assert "reset" in error.what


def test_file_that_was_read_further_than_it_goes_is_noticed_without_gtids(new_mysql_server: MakeServer, ask: Ask):
    off = {"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"}
    server = prepared(new_mysql_server("mysql", settings=off))
    insert(server, 3)
    position = ask(server).start()
    assert position.gtids is None
    ask(server).resume(position)
    for wrong in (replace(position, offset=position.offset + 500), replace(position, offset=position.offset - 3)):
        assert type(ask(server).refused(wrong)) is PositionLost
    purge(server)
    error = ask(server).refused(position)
    assert type(error) is PositionLost
    assert error.what == "the source no longer has its log file binlog.000001"
    assert "from binlog.000001:" in error.why
    error = ask(server).refused(replace(position, server="another"))
    assert type(error) is SourceChanged


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_another_server_is_refused_unless_it_has_all_that_was_applied(
    engine: str, new_mysql_server: MakeServer, ask: Ask
):
    first = prepared(new_mysql_server(engine))
    insert(first, 2)
    behind = ask(first).start()
    insert(first, 2)
    position, before = ask(first).start(), ask(first).identity()
    other = prepared(new_mysql_server(engine, settings={"log-slave-updates": "1"}))
    error = ask(other).refused(position, before)
    assert type(error) is SourceChanged
    assert str(position.gtids) in error.what
    # A replica of the first that has all of it, and one that was stopped too early.
    reset(other)
    other.query("DROP DATABASE shop")
    if engine == "mysql":
        source = f"SOURCE_HOST='127.0.0.1', SOURCE_PORT={first.port}, SOURCE_USER='repl', SOURCE_PASSWORD='p'"
        source += ", SOURCE_CONNECT_RETRY=1"
        reset(other)
        statement = f"CHANGE REPLICATION SOURCE TO {source}, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"
        start, waited = "START REPLICA", f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{position.gtids}', 120)"
    else:
        reset(other)
        source = f"MASTER_HOST='127.0.0.1', MASTER_PORT={first.port}, MASTER_USER='repl', MASTER_PASSWORD='p'"
        source += ", MASTER_CONNECT_RETRY=1"
        statement = f"CHANGE MASTER TO {source}, MASTER_USE_GTID=slave_pos, MASTER_SSL=0"
        start, waited = "START SLAVE", f"SELECT MASTER_GTID_WAIT('{position.gtids}', 120)"
    first.create_user("repl", "p", ["REPLICATION SLAVE ON *.*"])
    other.query(statement)
    other.query(start)
    assert other.query(waited) == [(0,)]
    ask(other).resume(position, before)
    ask(other).resume(behind, before)
    assert ask(other).end().covers(position)
    assert not behind.covers(ask(other).end())
    other.query(start.replace("START", "STOP"))
    insert(first)
    later = ask(first).start()
    error = ask(other).refused(later, before)
    assert type(error) is SourceChanged
    missing = str(later.gtids).rpartition("-")[2]
    assert missing in error.what


def test_other_engine_is_another_source(server: MysqlServer, ask: Ask):
    one = ask(server)
    error = one.refused(one.start(), {**one.identity(), "engine": "postgresql"})
    assert type(error) is SourceChanged


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_server_without_a_log_says_so(engine: str, new_mysql_server: MakeServer, ask: Ask):
    settings = {"log-bin": None, "skip-log-bin": ""} if engine == "mysql" else {"log-bin": None}
    server = new_mysql_server(engine, settings={**settings, "gtid-mode": None, "binlog-format": None})
    server.start()
    with pytest.raises(OperatorError, match="writes no binary log"):
        ask(server).end()


def test_tagged_transactions_are_read_written_and_asked_for(new_mysql_server: MakeServer, ask: Ask):
    """The server's own Previous_gtids event is what `encode` makes, and a dump from a set sends only what is not in
    it."""
    server = prepared(new_mysql_server("mysql", "9.7"))
    with connect(server.url(), side="target") as connection, connection.cursor() as cursor:
        for following in ("AUTOMATIC:night", "AUTOMATIC", "AUTOMATIC:a_1", "AUTOMATIC:night", "AUTOMATIC"):
            cursor.execute(f"SET gtid_next = '{following}'")
            cursor.execute("INSERT INTO shop.t (n) VALUES (1)")
    position = ask(server).start()
    assert isinstance(position.gtids, MysqlGtids)
    assert ":night:1-2" in str(position.gtids)
    assert str(position.gtids) == rows(ask(server).connection, "SELECT @@gtid_executed")[0][0].replace("\n", "")
    server.query("FLUSH BINARY LOGS")
    told = [event[19:-4] for kind, event in dump(server, position.gtids) if kind == PREVIOUS_GTIDS]
    assert told[-1] == position.gtids.encode()
    assert MysqlGtids.decode(told[-1]) == position.gtids
    gtid_events = (33, 42)
    assert not [kind for kind, _ in dump(server, position.gtids) if kind in gtid_events]
    uuid = position.server
    less = position.gtids.minus(MysqlGtids.parse(f"{uuid}:night:2"))
    assert len([kind for kind, _ in dump(server, less) if kind in gtid_events]) == 1
    plain = MysqlGtids({uuid: position.gtids.sets[uuid]})
    assert len([kind for kind, _ in dump(server, plain) if kind in gtid_events]) == 3


def test_untagged_transactions_are_asked_for_of_every_mysql(new_mysql_server: MakeServer, ask: Ask):
    for version in ("8.0", "9.7"):
        server = prepared(new_mysql_server("mysql", version))
        insert(server, 3)
        gtids = ask(server).start().gtids
        assert isinstance(gtids, MysqlGtids)
        less = MysqlGtids(dict.fromkeys(gtids.sets, ((1, 3),)))
        assert len([kind for kind, _ in dump(server, less) if kind == 33]) == 2
        server.query("FLUSH BINARY LOGS")
        assert [event[19:-4] for kind, event in dump(server, gtids) if kind == PREVIOUS_GTIDS][-1] == gtids.encode()
        more = gtids.add("3e11fa47-71ca-11e1-9e33-c80aa9429562", 7)
        assert [kind for kind, _ in dump(server, more) if kind == 33] == []
        with pytest.raises(pymysql.Error) as caught:
            dump(server, gtids.add(next(iter(gtids.sets)), 99))
        assert type(translate(caught.value, side="source", at="")) is SourceChanged


def dump(server: MysqlServer, gtids: MysqlGtids) -> list[tuple[int, bytes]]:
    """Return type and bytes of the events that the server sends to a reader which has these transactions."""
    found: list[tuple[int, bytes]] = []
    with connect(server.url(), side="source", read_timeout=20) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'")
        encoded = gtids.encode()
        # https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_binlog_dump_gtid.html; flag 1: end with
        # an EOF packet instead of waiting.
        asked = struct.pack("<HIIQI", 1, 4242, 0, 4, len(encoded)) + encoded
        connection._execute_command(COM_BINLOG_DUMP_GTID, asked)  # type: ignore[attr-defined]
        while True:
            packet = connection._read_packet()  # type: ignore[attr-defined]
            data = packet.get_all_data()
            if data[0] == 0xFE and len(data) < 9:
                return found
            found.append((data[5], data[1:]))


def test_dump_from_purged_log_is_a_lost_position(new_mysql_server: MakeServer, ask: Ask):
    for version in ("8.0", "9.7"):
        server = prepared(new_mysql_server("mysql", version))
        early = ask(server).start().gtids
        assert isinstance(early, MysqlGtids)
        insert(server)
        purge(server)
        with pytest.raises(pymysql.Error) as caught:
            dump(server, early)
        error = translate(caught.value, side="source", at="")
        assert type(error) is PositionLost
        assert error.do == "cdcflow resync --all"


def read_on(connection: Connection[Any]) -> None:
    while True:
        connection._read_packet()  # type: ignore[attr-defined]


def test_reader_whose_server_id_another_takes_is_told(server: MysqlServer, ask: Ask):
    """The server ends the connection of whoever had the number before."""
    start = ask(server).start()
    # https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_binlog_dump.html
    asked = struct.pack("<IHI", start.offset, 0, 4242) + start.file.encode()

    def reader() -> Connection[Any]:
        connection = connect(server.url(), side="source", read_timeout=20)
        with connection.cursor() as cursor:
            cursor.execute("SET @source_binlog_checksum = 'CRC32', @master_binlog_checksum = 'CRC32'")
        connection._execute_command(0x12, asked)  # type: ignore[attr-defined]
        connection._read_packet()  # type: ignore[attr-defined]
        return connection

    first = reader()
    second = reader()
    with pytest.raises(pymysql.Error) as caught:
        read_on(first)
    error = translate(caught.value, side="source", at="")
    assert type(error) is OperatorError
    assert "server id" in error.what
    second.close()
