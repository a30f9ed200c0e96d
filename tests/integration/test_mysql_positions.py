"""Whether a pipeline goes on from its place in a binary log: purged, reset, restored, lost in a crash, failed over."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from cdcflow import Pipeline, read
from cdcflow.sources.mysql import log
from cdcflow.sources.mysql.position import Binlog
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_session import rows
from tests.servers.sides import Rows, same_sides
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]
LOST = 5


@dataclass
class Flow:
    """A source of this test alone with one table, followed into PostgreSQL."""

    server: MysqlServer
    source: MysqlDatabase
    target: Database
    folder: PipelineFolder
    cdcflow: Call

    def insert(self, *numbers: int) -> None:
        for number in numbers:
            self.source.execute(f"INSERT INTO t VALUES ({number}, 'row {number}')")

    def insert_wide(self, number: int) -> None:
        self.source.execute(f"INSERT INTO t (id, v) VALUES ({number}, 'row {number}')")

    def caught_up(self) -> None:
        self.cdcflow("run", "--until-caught-up", exit_code=0)
        same_sides(Rows(self.source), self.side, "t")

    @property
    def side(self) -> Rows:
        return Rows(self.target)

    def refused(self) -> str:
        """Run it, which must end with exit code 5 and change nothing; return the report."""
        before = self.target.query("SELECT * FROM t ORDER BY id")
        done = self.cdcflow("run", "--until-caught-up", exit_code=LOST)
        assert self.target.query("SELECT * FROM t ORDER BY id") == before
        assert "do:" in done.stderr
        return done.stderr

    def resync(self) -> None:
        """Do what the report says, and see that all is well again."""
        self.cdcflow("resync", "--all", exit_code=0)
        self.insert(900)
        self.caught_up()


@pytest.fixture
def flow_of(
    new_mysql_server: Callable[..., MysqlServer],
    new_mysql_database: Callable[..., MysqlDatabase],
    new_pipeline: Callable[..., PipelineFolder],
    target_db: Database,
    cdcflow: Call,
) -> Callable[..., Flow]:
    """`flow_of("mysql", "9.7", settings={..})`: filled and caught up."""

    def make(engine: str, version: str = "", **more: Any) -> Flow:
        server = new_mysql_server(engine, version, **more)
        source = new_mysql_database(server, "shop")
        source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50)); INSERT INTO t VALUES (1, 'first')")
        folder = new_pipeline(source, target_db).write_rules({"match": f"{source.name}.*", "to": "public.{table}"})
        made = Flow(server, source, target_db, folder, cdcflow)
        made.caught_up()
        made.insert(2, 3)
        made.caught_up()
        return made

    return make


ENGINES = [("mysql", "9.7"), ("mariadb", "11.8")]
both_engines = pytest.mark.parametrize(("engine", "version"), ENGINES)


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


@pytest.mark.parametrize(
    ("engine", "version", "settings"),
    [
        ("mysql", "9.7", {}),
        ("mysql", "9.7", {"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"}),
        ("mariadb", "11.8", {}),
    ],
    ids=["mysql", "without-gtids", "mariadb"],
)
def test_log_that_was_purged_unread_is_told_and_mended_by_resync(
    engine: str, version: str, settings: dict[str, str], flow_of: Callable[..., Flow]
) -> None:
    flow = flow_of(engine, version, settings=settings)
    server_name = "server_id" if engine == "mariadb" else "server_uuid"
    name = str(flow.source.value(f"SELECT @@{server_name}"))
    purge(flow.server)
    if not settings:
        flow.caught_up()  # what was read already is no loss
    else:
        assert "no longer has its log file binlog.000001" in flow.refused()
        flow.resync()
        return
    flow.insert(4)
    flow.server.query("FLUSH BINARY LOGS")
    flow.insert(5)
    purge(flow.server)
    told = flow.refused()
    assert "no longer has transactions that follow the checkpoint" in told
    assert name in told
    assert "PURGE BINARY LOGS" in told
    assert "do:   cdcflow resync --all" in told
    assert "slot" not in told
    flow.resync()


@pytest.mark.parametrize(
    ("engine", "version", "after"), [("mysql", "9.7", 0), ("mysql", "9.7", 40), ("mariadb", "11.8", 40)]
)
def test_log_that_was_reset_is_told(engine: str, version: str, after: int, flow_of: Callable[..., Flow]) -> None:
    """Also where as many transactions follow as were read before."""
    flow = flow_of(engine, version)
    reset(flow.server)
    flow.insert(*range(10, 10 + after))
    told = flow.refused()
    assert "RESET BINARY LOGS AND GTIDS" in told
    assert "slot" not in told
    flow.resync()


@both_engines
def test_data_restored_under_a_new_identity_is_gone_on_from_by_gtid(
    engine: str, version: str, flow_of: Callable[..., Flow]
) -> None:
    flow = flow_of(engine, version)
    flow.insert(4)
    flow.server.stop()
    if engine == "mysql":
        (flow.server.folder / "data" / "auto.cnf").unlink()
    else:
        flow.server.server_id += 1
    flow.server.start()
    flow.insert(5)
    flow.caught_up()
    flow.insert(6)
    flow.caught_up()


@pytest.mark.parametrize(
    ("engine", "version", "running_on"), [("mysql", "9.7", False), ("mysql", "9.7", True), ("mariadb", "11.8", True)]
)
def test_source_that_lost_its_last_transactions_is_told(
    engine: str, version: str, running_on: bool, flow_of: Callable[..., Flow], running: Start
) -> None:
    """As a crash without sync_binlog, or an older backup that was restored."""
    flow = flow_of(engine, version)
    data, kept = flow.server.folder / "data", flow.server.folder / "kept"
    flow.server.stop()
    subprocess.run(["cp", "-a", "--sparse=always", str(data), str(kept)], check=True)
    flow.server.start()
    flow.insert(4, 5)
    flow.caught_up()
    process = running("run") if running_on else None
    if process is not None:
        process.until_output("streaming")
    flow.server.kill()
    shutil.rmtree(data)
    kept.rename(data)
    flow.server.start()
    if process is not None:
        assert process.wait() == LOST, process.output()
        told = process.output()
    else:
        told = flow.refused()
    assert "no longer has what was applied already" in told or "does not hold what was applied already" in told
    assert "sync_binlog" in told
    flow.insert(6)  # its number was another's
    assert "applied already" in flow.refused()
    flow.resync()


@both_engines
def test_failover_goes_on_at_a_replica_that_has_everything_and_stops_at_one_that_lacks_some(
    engine: str, version: str, flow_of: Callable[..., Flow], new_mysql_server: Callable[..., MysqlServer]
) -> None:
    flow = flow_of(engine, version, settings={"log-slave-updates": "1"})
    first = flow.server
    first.create_user("repl", "p", ["REPLICATION SLAVE ON *.*"])
    complete = replica_of(first, new_mysql_server(engine, version, settings={"log-slave-updates": "1"}))
    lacking = replica_of(first, new_mysql_server(engine, version, settings={"log-slave-updates": "1"}))
    caught_up(first, lacking)
    lacking.query("STOP REPLICA")
    flow.insert(4, 5)
    flow.source.execute("ALTER TABLE t ADD COLUMN w int DEFAULT 8; INSERT INTO t VALUES (6, 'six', 6)")
    flow.caught_up()
    flow.insert_wide(7)  # not applied yet when the source goes
    caught_up(first, complete)
    first.stop()

    point_at(flow, lacking)
    told = flow.refused()
    applied = "lacks transactions that were applied already" in told or "does not hold what was applied" in told
    assert applied, told
    missing = first_missing(flow, lacking)
    assert missing in told, (missing, told)
    assert "point source.url at a server that has them" in told

    point_at(flow, complete)
    complete.query("STOP REPLICA")
    flow.source = MysqlDatabase(complete, flow.source.name)
    flow.insert_wide(8)
    flow.caught_up()
    flow.insert_wide(9)
    flow.source.execute("UPDATE t SET w = 1; DELETE FROM t WHERE id = 5")
    flow.caught_up()
    flow.source.close()


def test_position_that_the_older_command_has_no_room_for_is_gone_on_from_without_gtids(
    flow_of: Callable[..., Flow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond 4 GB of a file, which is 100 bytes here: it is read from its head, and what was applied is passed over."""
    flow = flow_of("mysql", "9.7", settings={"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"})
    asked: list[tuple[int, int]] = []
    behind: list[str] = []  # what is executed when the place is known
    place = log.BinlogConnection._place

    def placed(self: Any, start: Binlog, server: str) -> Any:
        found = place(self, start, server)
        asked.append((found[0][1], start.offset))
        while behind:
            flow.source.execute(behind.pop())
        return found

    def run() -> None:
        with Pipeline.from_file(flow.folder.config) as pipeline:
            pipeline.run(until_caught_up=True)
        same_sides(Rows(flow.source), flow.side, "t", "emptied")

    def prepare(name: str, number: int) -> None:
        with flow.source.connect() as writer:
            rows(writer, f"XA START '{name}'; INSERT INTO t (id, v) VALUES ({number}, 'prepared')")
            rows(writer, f"XA END '{name}'; XA PREPARE '{name}'")

    flow.source.execute("CREATE TABLE emptied (id int PRIMARY KEY); INSERT INTO emptied VALUES (1)")
    flow.server.query("FLUSH BINARY LOGS")  # what is read again does not make the tables
    run()
    monkeypatch.setattr(log, "_OFFSET_LIMIT", 100)
    monkeypatch.setattr(log.BinlogConnection, "_place", placed)
    flow.source.execute("TRUNCATE emptied; INSERT INTO emptied VALUES (2)")
    flow.source.execute("ALTER TABLE t ADD COLUMN w int DEFAULT 5; INSERT INTO t VALUES (4, 'four', 4)")
    flow.source.execute("ALTER TABLE t RENAME COLUMN v TO x, ADD COLUMN v varchar(9) DEFAULT 'new'")
    flow.source.execute("UPDATE t SET w = w + 1; DELETE FROM t WHERE id = 2; TRUNCATE emptied")
    flow.source.execute("INSERT INTO emptied VALUES (3)")
    prepare("before", 50)
    run()
    flow.source.execute("INSERT INTO t VALUES (5, 'five', 5, 'f'); UPDATE t SET w = w + 1")
    flow.source.execute("XA COMMIT 'before'; ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (6, 'six', 6)")
    run()
    assert asked
    assert {begin for begin, _ in asked} == {4}
    assert all(offset > 100 for _, offset in asked)
    # Nor is anything from before shown to who looks from now on, or keeps what follows from being shown.
    behind.append("INSERT INTO t (id, x) VALUES (7, 'seven')")
    with closing(read(flow.source.url)) as events:
        found = next(events)
    assert (found.op, found.after) == ("insert", {"id": 7, "x": "seven", "w": 5})
    behind.append("INSERT INTO t (id, x) VALUES (8, 'eight')")
    run()


def test_log_that_goes_on_under_another_name_is_gone_on_with(flow_of: Callable[..., Flow]) -> None:
    """Its numbers begin again."""
    flow = flow_of("mysql", "9.7")
    for number in (4, 5):
        flow.server.query("FLUSH BINARY LOGS")
        flow.insert(number)
    flow.caught_up()
    flow.server.stop()
    flow.server.change({"log-bin": "another"})
    flow.server.start()
    assert flow.server.query("SHOW BINARY LOGS")[-1][0] == "another.000001"
    flow.insert(6)
    flow.source.execute("UPDATE t SET v = 'new' WHERE id = 1")
    flow.caught_up()
    assert "another.000001:" in str(flow.target.value("SELECT position FROM cdcflow.checkpoints"))
    flow.insert(7)
    flow.caught_up()


@both_engines
def test_check_says_how_long_the_log_is_kept_that_the_pipeline_needs(
    engine: str, version: str, flow_of: Callable[..., Flow]
) -> None:
    flow = flow_of(engine, version)

    def expiry() -> tuple[str, str, str]:
        done = flow.cdcflow("check", "--json")
        (found,) = (each for each in json.loads(done.stdout)["findings"] if each["name"] == "source.expiry")
        return found["level"], found["found"], found.get("do", "")

    flow.server.configure(binlog_expire_logs_seconds="604800")
    assert expiry()[:2] == ("ok", "what follows it is in the log's newest file")
    flow.insert(4)
    needed = flow.server.query("SHOW BINARY LOGS")[-1][0]
    flow.server.query("FLUSH BINARY LOGS")
    level, said, _ = expiry()
    assert level == "ok"
    assert said.startswith(f"log file {needed} is needed, and kept for another ")
    # It is purged when the next file begins, not before.
    flow.server.configure(binlog_expire_logs_seconds="1")
    level, said, do = until(lambda: (found := expiry())[1].endswith("1") and found, what="it has expired")
    assert level == "warning"
    assert said == f"log file {needed} is needed, and will be purged at any time now: binlog_expire_logs_seconds is 1"
    assert "binlog_expire_logs_seconds = 259200" in do
    flow.caught_up()
    assert expiry()[0] == "ok"
    flow.insert(5)
    purge(flow.server)
    blockers = json.loads(flow.cdcflow("check", "--json", exit_code=3).stdout)["findings"]
    assert any(each["level"] == "blocker" and each["name"] == "source.position" for each in blockers)


@both_engines
def test_missing_transactions_are_all_told_however_many(
    engine: str, version: str, flow_of: Callable[..., Flow]
) -> None:
    flow = flow_of(engine, version)
    if engine == "mysql":
        lost = "3e11fa47-71ca-11e1-9e33-c80aa9429562:" + ":".join(str(number) for number in range(10_001, 11_000, 2))
    else:
        lost = ",".join(f"{domain}-77-{domain}999" for domain in range(1_001, 1_200))
    flow.target.execute(f"UPDATE cdcflow.checkpoints SET position = replace(position, '{engine}=', '{engine}={lost},')")
    for told in (flow.refused(), flow.cdcflow("check", "--json", exit_code=3).stderr):
        assert lost in told.replace(", ", ",")
    (message,) = (line for line in flow.refused().splitlines() if line.startswith("error: "))
    assert len(message) < 1_300
    shown = message.partition(" ... (")[0].split()[-1]
    assert all(part in lost.replace(",", ":").split(":") for part in shown.split(":"))


def test_another_server_without_gtids_is_refused(
    flow_of: Callable[..., Flow], new_mysql_server: Callable[..., MysqlServer]
) -> None:
    settings = {"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"}
    flow = flow_of("mysql", "9.7", settings=settings)
    other = new_mysql_server("mysql", "9.7", settings=settings)
    other.query(f"CREATE DATABASE {flow.source.name}; CREATE TABLE {flow.source.name}.t (id int PRIMARY KEY, v text)")
    point_at(flow, other)
    told = flow.refused()
    assert "the source is another server" in told
    assert "gtid_mode=ON" in told


def test_source_of_another_engine_is_refused(
    flow_of: Callable[..., Flow], new_mysql_server: Callable[..., MysqlServer]
) -> None:
    flow = flow_of("mysql", "9.7")
    other = new_mysql_server("mariadb")
    other.query(f"CREATE DATABASE {flow.source.name}; CREATE TABLE {flow.source.name}.t (id int PRIMARY KEY, v text)")
    point_at(flow, other)
    assert "it is mariadb, ours was mysql" in flow.refused()


def replica_of(first: MysqlServer, other: MysqlServer) -> MysqlServer:
    """Make `other` a replica of everything that `first` has in its log."""
    reset(other)
    if first.flavour == "mysql":
        source = f"SOURCE_HOST='127.0.0.1', SOURCE_PORT={first.port}, SOURCE_USER='repl', SOURCE_PASSWORD='p'"
        source += ", SOURCE_CONNECT_RETRY=1"
        other.query(f"CHANGE REPLICATION SOURCE TO {source}, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1")
    else:
        source = f"MASTER_HOST='127.0.0.1', MASTER_PORT={first.port}, MASTER_USER='repl', MASTER_PASSWORD='p'"
        source += ", MASTER_CONNECT_RETRY=1"
        other.query(f"CHANGE MASTER TO {source}, MASTER_USE_GTID=slave_pos, MASTER_SSL=0")
    other.query("START REPLICA")
    return other


def caught_up(first: MysqlServer, other: MysqlServer) -> None:
    """Wait until a replica has everything."""
    if first.flavour == "mysql":
        ((upto,),) = first.query("SELECT @@GLOBAL.gtid_executed")
        waited = f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{upto}', 120)"
    else:
        ((upto,),) = first.query("SELECT @@GLOBAL.gtid_current_pos")
        waited = f"SELECT MASTER_GTID_WAIT('{upto}', 120)"
    assert other.query(waited) == [(0,)]


def point_at(flow: Flow, server: MysqlServer) -> None:
    flow.folder.through(source=server.url(flow.source.name))


def first_missing(flow: Flow, lacking: MysqlServer) -> str:
    """Return how a report shows what a replica has not: MySQL the set, MariaDB the last of its domain."""
    position = str(flow.target.value("SELECT position FROM cdcflow.checkpoints"))
    if lacking.flavour == "mariadb":
        return position.partition("mariadb=")[2]
    applied = position.partition("mysql=")[2]
    return str(lacking.query(f"SELECT GTID_SUBTRACT('{applied}', @@GLOBAL.gtid_executed)")[0][0])
