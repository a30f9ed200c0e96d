"""Tables that a person made in a MySQL or MariaDB target: compared, refused with what mends them, and checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdcflow.errors import ConfigError
from cdcflow.model.change import SchemaChange
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.schema import Column, Logical
from tests.integration.mysql_feed import ID, Fed, V, after, column, fed, found, table
from tests.servers.fleet import Fleet

__all__ = ["fed"]


def test_a_table_that_was_there_is_compared_and_altered_by_what_it_lacks(fed: Fed) -> None:
    fed.database.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(10), own INT DEFAULT 5)")
    one = fed.made()
    two = after(fed, one, ID, replace(V, name="u"), column("n", "integer", 3))
    change = [fed.rows(one, [("I", None, [b"1", b"a"])]), SchemaChange(one, two)]
    fed.send(*change)
    fed.send(SchemaChange(one, two))  # once more: a person did it, or a crash came in between
    fed.send(fed.rows(two, [("I", None, [b"2", b"b", b"1"]), ("U", None, [b"1", b"c", UNCHANGED])]), large=True)
    assert found(fed, "SELECT id, u, own, n FROM t ORDER BY 1") == [(1, "c", 5, None), (2, "b", 5, 1)]


def test_what_a_table_lacks_is_told_with_the_statement(fed: Fed) -> None:
    fed.database.execute("CREATE TABLE t (id INT, must INT NOT NULL) ENGINE=MyISAM")
    with pytest.raises(ConfigError) as caught:
        fed.made()
    report = caught.value.report()
    for words in ("ENGINE=InnoDB", "ADD COLUMN `v` longtext", "ADD UNIQUE KEY (`id`)", "MODIFY COLUMN `must` int"):
        assert words in report
    fed.database.execute("CREATE VIEW w AS SELECT 1 AS id")
    with pytest.raises(ConfigError, match="no plain table"):
        fed.made(name="w")
    with pytest.raises(ConfigError, match="too long"):
        fed.made(name="x" * 65)
    with pytest.raises(ConfigError, match="have one name"):
        fed.made(ID, column("a"), column("A"), name="y")


@pytest.mark.parametrize(
    ("source", "here", "engine", "refused"),
    [
        (column("k", "text"), "utf8mb4_unicode_ci", "postgresql", True),
        (column("k", "enum", labels=("a", "A")), "latin1_general_cs", "postgresql", True),
        (column("k", "text"), "utf8mb4_bin", "postgresql", False),
        (column("k", "text"), "ascii_bin", "postgresql", False),
        (column("k", '"ext"."citext"', logical=Logical.TEXT), "utf8mb4_unicode_ci", "postgresql", False),
        (column("k", "uuid"), "utf8mb4_unicode_ci", "postgresql", False),
        (column("k", "varchar(20)", charset="utf8mb4", collation="utf8mb4_bin"), "utf8mb4_unicode_ci", "mysql", True),
        (
            column("k", "varchar(20)", charset="utf8mb4", collation="utf8mb4_cs_0900_as_cs"),
            "utf8mb4_czech_ci",
            "mysql",
            True,
        ),
        (
            column("k", "varchar(20)", charset="utf8mb4", collation="utf8mb4_cs_0900_ai_ci"),
            "utf8mb4_czech_ci",
            "mysql",
            False,
        ),
        (column("k", "varchar(20)", charset="latin1", collation="latin1_swedish_ci"), "utf8mb4_bin", "mysql", False),
    ],
)
def test_a_key_that_would_make_one_of_two_rows_is_refused(
    fed: Fed, source: Column, here: str, engine: str, refused: bool
) -> None:
    default = "'n''one'" if engine == "mysql" else "(concat('n', char(39), 'one'))"
    fed.database.execute(f"CREATE TABLE t (k VARCHAR(40) COLLATE {here} NOT NULL DEFAULT {default} PRIMARY KEY, v INT)")
    route = fed.route(table(source, column("v", "int"), key=("k",), engine=engine))
    told = [each for each in fed.target.check([route]) if each.name == "target.key"]
    assert [each.level.value for each in told] == ["blocker"] * refused
    if refused:
        with pytest.raises(ConfigError, match="that the source tells apart") as caught:
            fed.target.create(route)
        assert caught.value.do == told[0].do
        fed.database.execute("INSERT INTO t VALUES ('stays', NULL)")
        with pytest.raises(ConfigError, match="that the source tells apart"):
            fed.target.clear(route, route)
        assert found(fed, "SELECT k FROM t") == [("stays",)]
        fed.database.execute(f"DELETE FROM t; {caught.value.do}")
        assert not [each for each in fed.target.check([route]) if each.name == "target.key"]
    fed.target.create(route)
    fed.database.execute("INSERT INTO t (v) VALUES (0)")
    assert found(fed, "SELECT k FROM t") == [("n'one",)]
    if refused:
        fed.apply(route, [("I", None, [b"bob", b"1"]), ("I", None, [b"Bob", b"2"])], replayed=True)
        assert found(fed, "SELECT k, v FROM t WHERE v > 0 ORDER BY v") == [("bob", 1), ("Bob", 2)]


def test_of_a_key_that_only_messages_tell_of_it_is_not_known_what_it_tells_apart(fed: Fed) -> None:
    fed.database.execute("CREATE TABLE t (k VARCHAR(40) COLLATE utf8mb4_unicode_ci PRIMARY KEY, v INT)")
    source = table(column("k", "text"), column("v", "integer"), key=("k",))
    described = replace(source, columns=tuple(replace(each, number=0) for each in source.columns))
    fed.target.create(fed.route(described))


def test_check_names_what_is_missing(fed: Fed, fleet: Fleet) -> None:
    server = fed.database.server
    url = server.create_user("small", "pw", [f"SELECT ON {fed.database.name}.*"])  # type: ignore[attr-defined]
    from cdcflow.targets.mysql import MysqlTarget

    route = fed.route(table(ID, V))
    try:
        lines = {(each.name, each.level.value): each for each in MysqlTarget(url, "p").check([route])}
    finally:
        server.query("DROP USER 'small'@'%'")  # type: ignore[attr-defined]
    assert f"ON `{fed.database.name}`.* TO 'small'@" in lines["target.privilege", "blocker"].do
    assert "CREATE TEMPORARY TABLES ON `cdcflow`.*" in lines["target.state", "blocker"].do
    fed.made()
    fed.database.execute("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 'x'")
    fed.database.execute("INSERT INTO t VALUES (1, 'a')")
    names = {each.name: each for each in fed.target.check([route])}
    assert "DROP TRIGGER" in names["target.trigger"].do
    assert "target.rows" in names
    assert not [each for each in fed.target.check([route]) if each.level.value == "blocker"]
