"""What `check` finds in a MySQL or MariaDB source, and that what it says to do mends it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from cdcflow.engines.mysql.connect import Flavour, connect, flavour
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Mode, OnDelete, Route
from cdcflow.model.schema import Table
from cdcflow.sources.mysql import check, check_tables
from cdcflow.sources.mysql.catalog import tables
from cdcflow.sources.mysql.config import Config, chosen_id
from cdcflow.sources.mysql.grants import Grants
from tests.conftest import MakeMysqlDatabase
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer

SERVERS = [("mysql", "9.7"), ("mysql", "8.0"), ("mariadb", "11.8"), ("mariadb", "11.4")]


@pytest.fixture(params=SERVERS, ids=lambda each: "-".join(each))
def server(request: pytest.FixtureRequest, fleet: Fleet) -> MysqlServer:
    """Every version that is tested."""
    engine, version = request.param
    return fleet.mysql(version) if engine == "mysql" else fleet.mariadb(version=version)


@pytest.fixture
def database(server: MysqlServer, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    return new_mysql_database(server)


def route(table: Table, **settings: object) -> Route:
    kept = tuple((column, column.name) for column in table.columns if not column.generated)
    return Route(table, table.name, kept, table.key, **settings)  # type: ignore[arg-type]


def looked_at(
    database: MysqlDatabase,
    url: str = "",
    server_id: int | None = None,
    refused: tuple[str, ...] = (),
    **settings: object,
) -> list[Finding]:
    with connect(database.url, side="source") as connection:
        found = tables(connection, flavour(connection), database.name)
    routes = [route(table, **settings) for table in found if table.name.table not in refused]
    with connect(url or database.url, side="source") as connection:
        config = Config(url=database.url, server_id=server_id).named("shop")
        without = [table for table in found if table.name.table in refused]
        return check.findings(connection, flavour(connection), config, routes, without)


def by_name(found: list[Finding]) -> dict[str, Finding]:
    """One finding of each name, the worst."""
    order = [Level.OK, Level.NOTE, Level.WARNING, Level.BLOCKER]
    worst: dict[str, Finding] = {}
    for each in found:
        if each.name not in worst or order.index(each.level) > order.index(worst[each.name].level):
            worst[each.name] = each
    return worst


def test_server_that_is_set_up_right_has_no_blocker_and_no_warning(database: MysqlDatabase):
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, g INT AS (id + 1) VIRTUAL)")
    found = looked_at(database)
    assert [each for each in found if each.level in (Level.BLOCKER, Level.WARNING)] == []
    names = by_name(found)
    assert set(names) >= {
        "source.version",
        "source.log_bin",
        "source.binlog_format",
        "source.binlog_row_image",
        "source.binlog_row_metadata",
        "source.gtid_mode",
        "source.binlog_expire_logs_seconds",
        "source.sync_binlog",
        "source.replication",
        "source.server_id",
        "source.tables",
    }
    assert names["source.tables"].found == "1 of 1 tables that the rules name can be copied and followed"
    assert names["source.sync_binlog"].level is Level.NOTE  # the tests' servers are not durable
    assert str(chosen_id("shop")) in names["source.server_id"].subject


@pytest.mark.parametrize(
    ("variable", "value", "back", "name", "level"),
    [
        ("binlog_format", "'STATEMENT'", "'ROW'", "source.binlog_format", Level.BLOCKER),
        ("binlog_format", "'MIXED'", "'ROW'", "source.binlog_format", Level.BLOCKER),
        ("binlog_row_image", "'MINIMAL'", "'FULL'", "source.binlog_row_image", Level.NOTE),
        ("binlog_row_metadata", "'MINIMAL'", "'FULL'", "source.binlog_row_metadata", Level.NOTE),
        ("binlog_expire_logs_seconds", "3600", "2592000", "source.binlog_expire_logs_seconds", Level.WARNING),
        ("binlog_expire_logs_seconds", "0", "2592000", "source.binlog_expire_logs_seconds", Level.NOTE),
    ],
)
def test_setting_that_is_wrong_is_told_with_what_mends_it(
    database: MysqlDatabase, variable: str, value: str, back: str, name: str, level: Level
):
    server = database.server
    assert isinstance(server, MysqlServer)
    server.configure(**{variable: value})
    try:
        finding = by_name(looked_at(database))[name]
        assert finding.level is level
        if level in (Level.BLOCKER, Level.WARNING):
            assert f"{variable} = " in finding.do
            server.query(finding.do.split(";")[0].split(" (and")[0])
            assert by_name(looked_at(database))[name].level is Level.OK
    finally:
        server.configure(**{variable: back})
        if server.flavour == "mysql":
            server.query("RESET PERSIST")


def test_privileges_are_asked_for_one_by_one_until_nothing_is_missing(database: MysqlDatabase):
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, s INT); CREATE TABLE keyless (a INT)")
    server = database.server
    assert isinstance(server, MysqlServer)
    name = f"checked_{server.flavour}_{server.version.replace('.', '')}"
    url = server.create_user(name, "p")
    try:
        given = []
        for _ in range(8):
            blockers = [each for each in looked_at(database, url) if each.level is Level.BLOCKER]
            if not blockers:
                break
            for each in blockers:
                given.append(each.do)
                assert each.do.endswith(f"TO '{name}'@'%'")
                server.query(each.do)
        assert not blockers
        client = "REPLICATION CLIENT" if server.flavour == "mysql" else "BINLOG MONITOR"
        wanted = [
            f"GRANT REPLICATION SLAVE, {client} ON *.* TO '{name}'@'%'",
            f"GRANT SELECT ON `{database.name}`.`t` TO '{name}'@'%'",
            f"GRANT SELECT ON `{database.name}`.`keyless` TO '{name}'@'%'",
        ]
        if server.flavour == "mysql":  # a view of MariaDB's says itself where it stands
            wanted.append(f"GRANT LOCK TABLES ON `{database.name}`.* TO '{name}'@'%'")
        assert sorted(given) == sorted(wanted)
    finally:
        server.query(f"DROP USER {name}")


def test_privileges_of_a_role_count(database: MysqlDatabase):
    database.execute("CREATE TABLE t (id INT PRIMARY KEY); CREATE TABLE keyless (a INT)")
    server = database.server
    assert isinstance(server, MysqlServer)
    stem = f"{server.flavour}_{server.version.replace('.', '')}"
    name, role = f"member_{stem}", f"role_{stem}"
    url = server.create_user(name, "p")
    server.query(f"CREATE ROLE {role}")
    try:
        server.query(f"GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO {role}")
        server.query(f"GRANT LOCK TABLES ON `{database.name.replace('_', '%%')[:6]}%%`.* TO {role}", ())
        server.query(f"GRANT {role} TO {name}")
        to = "TO" if server.flavour == "mysql" else "FOR"
        server.query(f"SET DEFAULT ROLE {role} {to} {name}")
        assert [each for each in looked_at(database, url) if each.level is Level.BLOCKER] == []
    finally:
        server.query(f"DROP USER {name}")
        server.query(f"DROP ROLE {role}")


def test_part_of_a_table_that_may_not_be_read_is_found(database: MysqlDatabase):
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, s INT)")
    server = database.server
    assert isinstance(server, MysqlServer)
    name = f"part_{server.flavour}_{server.version.replace('.', '')}"
    url = server.create_user(name, "p", ["REPLICATION SLAVE, REPLICATION CLIENT ON *.*"])
    server.query(f"GRANT SELECT (id) ON {database.name}.t TO {name}")
    try:
        finding = by_name(looked_at(database, url))["table.select"]
        assert finding.level is Level.BLOCKER
        assert finding.do == f"GRANT SELECT ON `{database.name}`.`t` TO '{name}'@'%'"
    finally:
        server.query(f"DROP USER {name}")


def test_grants_match_databases_by_pattern():
    grants = Grants(
        "'u'@'%'",
        [
            "GRANT USAGE ON *.* TO `u`@`%`",
            "GRANT LOCK TABLES, SELECT ON `shop\\_1`.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `ten%`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT SELECT, INSERT (`a`, `b`) ON `x`.`y` TO `u`@`%`",
        ],
    )
    assert grants.has("LOCK TABLES", "shop_1")
    assert not grants.has("LOCK TABLES", "shopx1")
    assert grants.has("LOCK TABLES", "tenant")
    assert not grants.has("LOCK TABLES", "other")
    assert not grants.has("REPLICATION SLAVE")
    assert Grants("", ["GRANT ALL PRIVILEGES ON *.* TO `root`@`%`"]).has("REPLICATION SLAVE")
    assert Grants("", ["GRANT BINLOG MONITOR ON *.* TO `r`@`%`"]).has("REPLICATION CLIENT")


def test_table_that_is_dropped_meanwhile_is_told(database: MysqlDatabase):
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with connect(database.url, side="source") as connection:
        kind = flavour(connection)
        routes = [route(table) for table in tables(connection, kind, database.name)]
        database.execute("DROP TABLE t")
        config = Config(url=database.url).named("shop")
        found = by_name(check.findings(connection, kind, config, routes, []))
    assert found["table.exists"].level is Level.WARNING


def test_server_id_of_the_source_itself_is_refused(database: MysqlDatabase):
    server = database.server
    assert isinstance(server, MysqlServer)
    finding = by_name(looked_at(database, server_id=server.server_id))["source.server_id"]
    assert (finding.level, finding.found) == (Level.BLOCKER, "is the source's own")
    assert by_name(looked_at(database, server_id=4242))["source.server_id"].subject == "server_id 4242"


@pytest.mark.parametrize(("engine", "version"), [each for each in SERVERS if each[1] != "8.0"])
def test_server_id_that_another_reader_has_is_told(
    engine: str, version: str, fleet: Fleet, new_mysql_database: MakeMysqlDatabase
):
    server = fleet.mysql(version) if engine == "mysql" else fleet.mariadb(version=version)
    database = new_mysql_database(server)
    with connect(database.url, side="source") as reader:
        # https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_register_replica.html
        reader._execute_command(0x15, struct.pack("<I3xHII", 4243, 0, 0, 0))  # type: ignore[attr-defined]
        reader._read_ok_packet()  # type: ignore[attr-defined]
        finding = by_name(looked_at(database, server_id=4243))["source.server_id"]
        assert (finding.level, finding.found) == (
            Level.NOTE,
            "is in use: another process reads the log under it now",
        )
        assert by_name(looked_at(database, server_id=4244))["source.server_id"].level is Level.OK


CASCADING = (
    "CREATE TABLE parent (id INT PRIMARY KEY);"
    "CREATE TABLE child (id INT PRIMARY KEY, p INT,"
    " CONSTRAINT c FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE);"
    "CREATE TABLE emptied (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL);"
    "CREATE TABLE moved (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id) ON UPDATE CASCADE);"
    "CREATE TABLE plain (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))"
)


def test_tables_that_foreign_keys_change_without_row_events_are_refused(database: MysqlDatabase):
    database.execute(CASCADING)
    found = [each for each in looked_at(database) if each.name == "table.cascade"]
    if database.version == "9.7":
        assert found == []
        return
    assert {(each.subject.split(".")[1], each.level) for each in found} == {
        ("child", Level.BLOCKER),
        ("emptied", Level.BLOCKER),
        ("moved", Level.WARNING),
    }
    for each in found:  # the statements that it says are right
        database.execute(each.do.splitlines()[0].removeprefix("let the application change them, and ").rstrip(";"))
    assert [each for each in looked_at(database) if each.name == "table.cascade"] == []


def test_cascades_matter_only_where_their_changes_would_be_followed(
    fleet: Fleet, new_mysql_database: MakeMysqlDatabase
):
    database = new_mysql_database(fleet.mysql("8.0"))
    database.execute(CASCADING)
    ignored = {each.subject.split(".")[1] for each in cascades(database, on_delete=OnDelete.IGNORE)}
    assert ignored == {"emptied", "moved"}
    assert cascades(database, mode=Mode.APPEND) == []
    refused = [each for each in looked_at(database, refused=("child",)) if each.subject.endswith(".child")]
    assert [each.name for each in refused if each.level is Level.BLOCKER] == ["table.cascade"]
    assert check_tables.cascades_logged(Flavour("mysql", (9, 6, 0)), {"innodb_native_foreign_keys": "OFF"})
    assert not check_tables.cascades_logged(Flavour("mysql", (9, 6, 0)), {"innodb_native_foreign_keys": "ON"})
    assert not check_tables.cascades_logged(Flavour("mysql", (9, 5, 0)), {})
    assert not check_tables.cascades_logged(Flavour("mariadb", (11, 8, 0)), {})


def cascades(database: MysqlDatabase, **settings: object) -> list[Finding]:
    return [each for each in looked_at(database, **settings) if each.name == "table.cascade"]  # type: ignore[arg-type]


def test_tables_of_other_engines_and_without_keys_are_told(database: MysqlDatabase):
    database.execute(
        "CREATE TABLE my (a INT PRIMARY KEY) ENGINE=MyISAM; CREATE TABLE mem (a INT PRIMARY KEY) ENGINE=MEMORY;"
        "CREATE TABLE keyless (a INT)"
    )
    found = {(each.name, each.subject.split(".")[-1]): each for each in looked_at(database)}
    assert found["table.engine", "my"].level is Level.NOTE
    assert "loses its rows" in found["table.engine", "mem"].found
    assert found["table.identity", "keyless"].level is Level.NOTE
    for key in (("table.engine", "my"), ("table.engine", "mem")):
        database.execute(found[key].do)
    assert not [each for each in looked_at(database) if each.name == "table.engine"]


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_database_that_the_log_leaves_out_is_a_blocker(engine: str, new_mysql_server: Callable[..., MysqlServer]):
    server = new_mysql_server(engine, settings={"binlog-ignore-db": "hidden"})
    server.start()
    for name in ("hidden", "shown"):
        server.query(f"CREATE DATABASE {name}")
        server.query(f"CREATE TABLE {name}.t (a INT PRIMARY KEY)")
    hidden = by_name(looked_at(MysqlDatabase(server, "hidden")))
    assert hidden["table.filtered"].level is Level.BLOCKER
    assert "table.filtered" not in by_name(looked_at(MysqlDatabase(server, "shown")))


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_server_without_a_log_or_gtids_is_told_and_the_rest_is_looked_at(
    engine: str, new_mysql_server: Callable[..., MysqlServer]
):
    off = {"skip-log-bin": ""} if engine == "mysql" else {}
    server = new_mysql_server(engine, settings={"log-bin": None, "gtid-mode": None, "binlog-format": None, **off})
    server.start()
    server.query("CREATE DATABASE shop")
    found = by_name(looked_at(MysqlDatabase(server, "shop")))
    assert found["source.log_bin"].level is Level.BLOCKER
    assert found["source.replication"].level is Level.OK
    if engine == "mysql":
        plain = new_mysql_server("mysql", settings={"gtid-mode": "OFF", "enforce-gtid-consistency": "OFF"})
        plain.start()
        plain.query("CREATE DATABASE shop")
        assert by_name(looked_at(MysqlDatabase(plain, "shop")))["source.gtid_mode"].level is Level.WARNING
