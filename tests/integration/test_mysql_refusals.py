"""What ends a run with MySQL at one end until somebody acts, and that doing what the report says mends it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.servers.commands import PipelineFolder, Running
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.sides import Rows, are_same, same_sides
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]
REFUSED = 5

# More statements than this never stand between a user without privileges and a pipeline that runs.
MOST_GRANTS = 25


@dataclass
class Flow:
    """A pipeline of one table between two databases of MySQL or MariaDB."""

    source: MysqlDatabase
    target: MysqlDatabase
    folder: PipelineFolder
    cdcflow: Call

    def caught_up(self) -> None:
        self.cdcflow("run", "--until-caught-up", exit_code=0)
        same_sides(Rows(self.source), Rows(self.target), "t")

    def refused(self, *words: str) -> str:
        """Run it, which must end with exit code 5 and these words; return the report."""
        done = self.cdcflow("run", "--until-caught-up", exit_code=REFUSED)
        report = done.stderr[done.stderr.index("error: ") :]
        for each in words:
            assert each in report, report
        assert "slot" not in report
        return report

    def checkpoint(self) -> str:
        asked = f"SELECT position FROM cdcflow.checkpoints WHERE pipeline = '{self.folder.name}'"
        return str(self.target.value(asked))


@pytest.fixture
def flow_of(
    new_mysql_database: Callable[..., MysqlDatabase], new_pipeline: Callable[..., PipelineFolder], cdcflow: Call
) -> Callable[..., Flow]:
    """`flow_of(source_server, target_server)`."""

    def make(source: MysqlServer, target: MysqlServer) -> Flow:
        here, there = new_mysql_database(source, "source"), new_mysql_database(target, "target")
        here.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50)); INSERT INTO t VALUES (1, 'first')")
        folder = new_pipeline(here, there)
        folder.write_rules({"match": f"{here.name}.*", "to": f"{there.name}.{{table}}"})
        return Flow(here, there, folder, cdcflow)

    return make


@pytest.fixture
def flow(flow_of: Callable[..., Flow], mysql_source: MysqlServer, mysql_target: MysqlServer) -> Flow:
    return flow_of(mysql_source, mysql_target)


# -- who may come in, and what for


@pytest.mark.parametrize("side", ["source", "target"])
def test_wrong_password_and_wrong_database_are_told(
    side: str, flow: Flow, mysql_source: MysqlServer, mysql_target: MysqlServer
) -> None:
    server = mysql_source if side == "source" else mysql_target
    own = (flow.source if side == "source" else flow.target).url
    name = f"u_{flow.source.name}"
    server.create_user(name, "right")
    try:
        flow.folder.through(**{side: server.url(user=name, password="wrong-secret")})
        report = flow.refused(f"the {side} refused user or password", "correct the user or the password in the URL")
        assert "wrong-secret" not in report
        if side == "source":
            flow.folder.through(source=server.url("nowhere"))
            flow.refused("the source has no such database", "correct the database in the URL")
    finally:
        server.query(f"DROP USER '{name}'@'%'")
    flow.folder.through(**{side: own})
    flow.caught_up()


@pytest.mark.parametrize(("side", "engine"), [("source", "mysql"), ("source", "mariadb"), ("target", "mysql")])
def test_each_missing_privilege_is_told_with_the_grant_that_gives_it(
    side: str,
    engine: str,
    flow_of: Callable[..., Flow],
    new_mysql_server: Callable[..., MysqlServer],
    request: pytest.FixtureRequest,
) -> None:
    """From a user who may nothing to a pipeline that runs, by executing what each report says and nothing else."""
    server = new_mysql_server(engine)
    other: MysqlServer = request.getfixturevalue("mysql_target" if side == "source" else "mysql_source")
    flow = flow_of(server, other) if side == "source" else flow_of(other, server)
    server.create_user("mover", "m")
    database = flow.source.name if side == "source" else ""
    flow.folder.through(**{side: server.url(database, user="mover", password="m")})
    granted: list[str] = []

    def run_with_what_it_asks_for() -> None:
        while (done := flow.cdcflow("run", "--until-caught-up")).returncode != 0:
            assert done.returncode == REFUSED, done.stderr
            asked = set(re.findall(r"GRANT [^']+? ON .+? TO 'mover'@'%'", done.stderr))
            assert len(asked) == 1, done.stderr
            assert asked.isdisjoint(granted), (granted, done.stderr)
            granted.extend(asked)
            assert len(granted) < MOST_GRANTS, granted
            server.query(granted[-1])
            if "then cdcflow resync" in done.stderr:
                flow.cdcflow("resync", f"{flow.source.name}.t")

    run_with_what_it_asks_for()
    flow.source.execute("INSERT INTO t VALUES (2, 'second'); ALTER TABLE t ADD COLUMN w int")
    flow.source.execute("INSERT INTO t VALUES (3, 'third', 3); DELETE FROM t WHERE id = 1")
    run_with_what_it_asks_for()
    flow.source.execute("TRUNCATE TABLE t; INSERT INTO t VALUES (4, 'fourth', 4)")
    run_with_what_it_asks_for()
    assert not [each for each in granted if "ALL" in each or "SUPER" in each]
    flow.caught_up()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"log-bin": None, "skip-log-bin": ""}, ("log_bin", "binary log")),
        ({"binlog-format": "STATEMENT", "transaction-isolation": "REPEATABLE-READ"}, ("binlog_format", "ROW")),
    ],
    ids=["log_bin", "binlog_format"],
)
def test_source_that_does_not_log_rows_is_refused(
    settings: dict[str, str | None],
    words: tuple[str, ...],
    flow_of: Callable[..., Flow],
    new_mysql_server: Callable[..., MysqlServer],
    mysql_target: MysqlServer,
) -> None:
    flow = flow_of(new_mysql_server(settings=settings), mysql_target)
    done = flow.cdcflow("check")
    assert done.returncode == 3, done.stdout + done.stderr
    for each in words:
        assert each in done.stdout
    done = flow.cdcflow("run", "--until-caught-up")
    assert done.returncode in (3, REFUSED), done.stdout + done.stderr
    for each in words:
        assert each in done.stdout + done.stderr, done.stderr


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_statement_in_the_log_stops_the_run_with_its_table(
    engine: str, flow_of: Callable[..., Flow], mysql_target: MysqlServer, request: pytest.FixtureRequest
) -> None:
    flow = flow_of(request.getfixturevalue(f"{engine}_source"), mysql_target)
    flow.caught_up()
    with flow.source.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
        cursor.execute("UPDATE t SET v = 'secret words' WHERE id = 1")
    report = flow.refused("by a statement that the log holds as text", f"{flow.source.name}.t")
    assert "secret words" not in report
    flow.cdcflow("resync", "--all", exit_code=0)
    flow.caught_up()


# -- one number for two readers


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_two_readers_under_one_number_end_with_the_reason_for_one_of_them(
    engine: str,
    flow_of: Callable[..., Flow],
    mysql_target: MysqlServer,
    mariadb_target: MysqlServer,
    new_mysql_database: Callable[..., MysqlDatabase],
    request: pytest.FixtureRequest,
    running: Start,
) -> None:
    """One pipeline started twice, into targets that know nothing of each other: no lease stands between them.

    MySQL tells readers apart by a uuid too, which is made from the pipeline's name; MariaDB only by the number.
    """
    flow = flow_of(request.getfixturevalue(f"{engine}_source"), mysql_target)
    first = running("run")
    first.until_output("table is live")
    other = new_mysql_database(mariadb_target, "target")
    flow.folder.through(target=other.url)
    flow.folder.write_rules({"match": f"{flow.source.name}.*", "to": f"{other.name}.{{table}}"})
    second = running("run")
    until(lambda: first.ended or second.ended, limit=60, what="one of them ends")
    loser, winner, target = (first, second, other) if first.ended else (second, first, flow.target)
    assert loser.wait() == REFUSED, loser.output()
    assert "another reader of the source's binary log has our server id" in loser.output()
    assert "set source.server_id" in loser.output()
    flow.source.execute("INSERT INTO t VALUES (6, 'six')")
    until(lambda: are_same(Rows(flow.source), Rows(target), "t"), what="the other one reads on")
    winner.terminate()
    assert winner.wait() == 0, winner.output()


# -- rows that the target does not take


# The target's own table, a row that it does not take, what is said of it, and what lets it in.
FAULTS = {
    "check": (
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(50), CONSTRAINT short CHECK (char_length(v) < 10))",
        "INSERT INTO t VALUES (2, 'much too long to be taken')",
        "a check constraint is not satisfied",
        "ALTER TABLE t DROP CONSTRAINT short",
    ),
    "not null": (
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(50) NOT NULL)",
        "INSERT INTO t VALUES (2, NULL)",
        "a column that must not be null would be",
        "ALTER TABLE t MODIFY v varchar(50) NULL",
    ),
    "unique": (
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(50), UNIQUE KEY once (v))",
        "INSERT INTO t VALUES (2, 'first')",
        "a unique constraint is not satisfied",
        "ALTER TABLE t DROP KEY once",
    ),
}


@pytest.mark.parametrize(
    ("engine", "kind", "many"),
    [
        ("mysql", "check", True),
        ("mariadb", "check", False),
        ("mysql", "not null", False),
        ("mariadb", "not null", True),
        ("mysql", "unique", True),
        ("mariadb", "unique", False),
    ],
)
def test_row_that_the_target_refuses_is_told_with_table_and_key_and_nothing_moves(
    engine: str,
    kind: str,
    many: bool,
    flow_of: Callable[..., Flow],
    mysql_source: MysqlServer,
    request: pytest.FixtureRequest,
) -> None:
    table, breaking, fault, mend = FAULTS[kind]
    flow = flow_of(mysql_source, request.getfixturevalue(f"{engine}_target"))
    flow.target.execute(table)
    flow.caught_up()
    before = flow.checkpoint()
    if many:
        values = ", ".join(f"({n}, 'v{n}')" for n in range(1000, 1500))
        flow.source.execute(f"BEGIN; INSERT INTO t VALUES {values}; {breaking}; DELETE FROM t WHERE id = 1400; COMMIT")
    else:
        flow.source.execute(breaking)
    report = flow.refused(fault, f"{flow.target.name}.t", "key id=2")
    assert "too long to be taken" not in report
    assert flow.checkpoint() == before
    assert flow.target.value("SELECT count(*) FROM t") == 1
    flow.target.execute(mend)
    flow.caught_up()


@pytest.mark.parametrize("side", ["source", "target"])
def test_row_larger_than_a_packet_is_told_with_the_setting(
    side: str,
    flow_of: Callable[..., Flow],
    new_mysql_server: Callable[..., MysqlServer],
    mysql_source: MysqlServer,
    mysql_target: MysqlServer,
) -> None:
    server = new_mysql_server()
    flow = flow_of(server, mysql_target) if side == "source" else flow_of(mysql_source, server)
    flow.source.execute("ALTER TABLE t MODIFY v longtext")
    flow.caught_up()
    before = flow.checkpoint()
    flow.source.execute("INSERT INTO t VALUES (2, repeat('x', 3000000)); INSERT INTO t VALUES (3, 'behind')")
    server.configure(max_allowed_packet="1048576")
    if side == "target":
        server.configure(local_infile="OFF")  # LOAD DATA brings such a row in pieces
        flow.refused("packet", "SET GLOBAL max_allowed_packet = 1073741824")
        assert flow.checkpoint() == before
        server.configure(max_allowed_packet="1073741824")
    flow.caught_up()
