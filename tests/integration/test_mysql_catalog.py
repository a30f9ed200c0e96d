"""Tables of MySQL and MariaDB as their catalogue describes them; the server is the oracle for what a default is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymysql.connections import Connection

from cdcflow.engines.mysql.connect import Flavour, connect, flavour
from cdcflow.engines.mysql.names import table_id
from cdcflow.model.schema import Column, Logical, ReplicaIdentity, Table, TableName
from cdcflow.sources.mysql.catalog import shape_of, tables
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


@pytest.fixture
def mysql(fleet: Fleet, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    return new_mysql_database(fleet.mysql("9.7"))


@pytest.fixture
def mariadb(fleet: Fleet, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    return new_mysql_database(fleet.mariadb(version="11.8"))


Read = Callable[[MysqlDatabase], dict[str, Table]]


@pytest.fixture
def read() -> Iterator[Read]:
    made: list[Connection[Any]] = []

    def one(database: MysqlDatabase) -> dict[str, Table]:
        made.append(connect(database.url, side="source"))
        return {table.name.table: table for table in tables(made[-1], flavour(made[-1]), database.name)}

    yield one
    for connection in made:
        connection.close()


def described(column: Column) -> tuple[str, Logical]:
    return column.type.text, column.logical


def test_every_type_has_one_text_and_one_meaning_on_every_server(database: MysqlDatabase, read: Read):
    types = {
        "tinyint": Logical.INT2,
        "tinyint(1)": Logical.INT2,
        "tinyint unsigned": Logical.INT2,
        "smallint": Logical.INT2,
        "smallint unsigned": Logical.INT4,
        "mediumint": Logical.INT4,
        "mediumint unsigned": Logical.INT4,
        "int": Logical.INT4,
        "int unsigned": Logical.INT8,
        "int(5) unsigned zerofill": Logical.INT8,
        "bigint": Logical.INT8,
        "bigint unsigned": Logical.UINT8,
        "decimal(10,2)": Logical.DECIMAL,
        "decimal(65,30) unsigned": Logical.DECIMAL,
        "float": Logical.FLOAT4,
        "float(7,3)": Logical.FLOAT4,
        "double": Logical.FLOAT8,
        "bit(9)": Logical.BIT,
        "date": Logical.DATE,
        "datetime": Logical.TIMESTAMP,
        "datetime(6)": Logical.TIMESTAMP,
        "timestamp": Logical.TIMESTAMPTZ,
        "timestamp(3)": Logical.TIMESTAMPTZ,
        "time": Logical.INTERVAL,
        "time(2)": Logical.INTERVAL,
        "year": Logical.INT2,
        "char(3)": Logical.TEXT,
        "varchar(20)": Logical.TEXT,
        "tinytext": Logical.TEXT,
        "text": Logical.TEXT,
        "mediumtext": Logical.TEXT,
        "longtext": Logical.TEXT,
        "binary(4)": Logical.BYTES,
        "varbinary(20)": Logical.BYTES,
        "tinyblob": Logical.BYTES,
        "blob": Logical.BYTES,
        "mediumblob": Logical.BYTES,
        "longblob": Logical.BYTES,
        "enum('a','b')": Logical.ENUM,
        "set('a','b')": Logical.SET,
        "json": Logical.JSON,
        "geometry": Logical.GEOMETRY,
        "point": Logical.GEOMETRY,
        "multipolygon": Logical.GEOMETRY,
    }
    if database.server.flavour == "mariadb":
        types |= {"uuid": Logical.UUID, "inet4": Logical.TEXT, "inet6": Logical.TEXT}
    elif database.version > "9":
        types |= {"vector(3)": Logical.ARRAY}
    columns = ", ".join(f"c{number} {text} NULL" for number, text in enumerate(types))
    database.execute(f"CREATE TABLE t ({columns})")
    table = read(database)["t"]
    assert [described(column) for column in table.columns] == list(types.items())
    assert all(column.nullable and column.default is None and column.missing is None for column in table.columns)
    assert table.engine == database.server.flavour
    assert table.id == table_id(TableName(database.name, "t"))
    if "vector(3)" in types:
        element = table.columns[-1].type.element
        assert element is not None
        assert element.text == "float"


LABELS = ("a,b", "c'd", "back\\slash", 'q"', "é€", "line\nbreak", "%", "tab\t", "b\\'x", "")


def test_labels_are_what_the_server_stores(database: MysqlDatabase, read: Read):
    connection = database.connect()
    quoted = ", ".join(connection.escape(label) for label in LABELS)
    database.execute(f"CREATE TABLE t (e ENUM({quoted}) CHARACTER SET utf8mb4, s SET('x','y z') CHARACTER SET latin1)")
    connection.close()
    table = read(database)["t"]
    assert table.column("e").type.labels == LABELS
    assert table.column("s").type.labels == ("x", "y z")
    assert table.column("s").type.charset == "latin1"
    stored = []
    for number in range(1, len(LABELS) + 1):
        database.execute(f"INSERT INTO t (e) VALUES ({number})")
        stored.append(database.value(f"SELECT e FROM t WHERE e = {number}"))
    assert tuple(stored) == table.column("e").type.labels


# What is declared, and what a row that was made without the column holds, as canonical text.
DEFAULTS = {
    "TINYINT(1) DEFAULT 1": "1",
    "INT DEFAULT -3": "-3",
    "INT(6) UNSIGNED ZEROFILL DEFAULT 7": "7",
    "BIGINT UNSIGNED DEFAULT 18446744073709551615": "18446744073709551615",
    "DECIMAL(10,3) DEFAULT -0.1": "-0.100",
    "DECIMAL(8,2) UNSIGNED ZEROFILL DEFAULT 7.5": "7.50",
    "FLOAT DEFAULT 0.1": "0.1",
    "FLOAT DEFAULT 0.1234567": "0.1234567",
    "FLOAT DEFAULT 16777217": "1.6777216e+07",
    "FLOAT DEFAULT 1e20": "1e+20",
    "DOUBLE DEFAULT 0.12345678901234567": "0.12345678901234566",
    "DOUBLE DEFAULT 1e15": "1e+15",
    "VARCHAR(40) DEFAULT 'it''s \\\\ \"x\" %'": 'it\'s \\ "x" %',
    "VARCHAR(9) CHARACTER SET latin1 DEFAULT 'é'": "é",
    "VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT 'a😀?'": "a😀?",
    "VARCHAR(9) DEFAULT ''": "",
    "VARCHAR(9) DEFAULT 'NULL'": "NULL",
    "VARCHAR(9) DEFAULT 'now()'": "now()",
    "VARCHAR(9) DEFAULT '12'": "12",
    "VARCHAR(9) DEFAULT NULL": None,
    "CHAR(5) DEFAULT 'ab'": "ab",
    "ENUM('a','b,c') DEFAULT 'b,c'": "b,c",
    "SET('x','y') DEFAULT 'x,y'": "x,y",
    "BIT(9) DEFAULT b'101'": "000000101",
    "BIT(8) DEFAULT 65": "01000001",
    "BINARY(4) DEFAULT 'ab'": "\\x61620000",
    "VARBINARY(10) DEFAULT X'00FF41'": "\\x00ff41",
    "VARBINARY(10) DEFAULT X'FE'": "\\xfe",
    "DATE DEFAULT '2024-02-03'": "2024-02-03",
    "DATETIME DEFAULT '2024-01-02 03:04:05'": "2024-01-02 03:04:05",
    "DATETIME(6) DEFAULT '2024-01-02 03:04:05.5'": "2024-01-02 03:04:05.5",
    # The table is made in a session that is at +05:00.
    "TIMESTAMP NULL DEFAULT '2024-01-02 03:04:05'": "2024-01-01 22:04:05+00",
    "TIME(2) DEFAULT '-12:00:00.5'": "-12:00:00.5",
    "TIME DEFAULT '838:59:59'": "838:59:59",
    "YEAR DEFAULT 2024": "2024",
    "DATE DEFAULT '0000-00-00'": "0000-00-00",
    "DATETIME DEFAULT CURRENT_TIMESTAMP": None,
    "INT NOT NULL": "0",
    "DECIMAL(5,2) NOT NULL": "0.00",
    "DOUBLE NOT NULL": "0",
    "VARCHAR(3) NOT NULL": "",
    "BINARY(2) NOT NULL": "\\x0000",
    "VARBINARY(2) NOT NULL": "\\x",
    "BIT(3) NOT NULL": "000",
    "ENUM('p','q') NOT NULL": "p",
    "SET('p','q') NOT NULL": "",
    "YEAR NOT NULL": "0",
    "TIME NOT NULL": "00:00:00",
    "DATE NOT NULL": "0000-00-00",
    "DATETIME NOT NULL": "0000-00-00 00:00:00",
}


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "filled"])
def test_default_is_the_value_that_rows_made_without_the_column_hold(database: MysqlDatabase, read: Read, empty: bool):
    database.execute("SET sql_mode = '', time_zone = '+05:00'")
    columns = ", ".join(f"c{number} {text}" for number, text in enumerate(DEFAULTS))
    database.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, {columns})".replace("%", "%%"), ())
    if not empty:
        database.execute("INSERT INTO t () VALUES ()")
    table = read(database)["t"]
    assert table.column("id").missing is None
    for column, (declared, missing) in zip(table.columns[1:], DEFAULTS.items(), strict=True):
        assert column.missing == missing, declared
    # What stands for the default in SQL makes the same table again.
    again = ", ".join(
        f"{column.name} {column.type.text}"
        + ("" if column.nullable else " NOT NULL")
        + (f" DEFAULT {column.default}" if column.default is not None else "")
        for column in table.columns
    )
    with connect(database.url, side="target") as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE again ({again})")
    copy = read(database)["again"]
    assert [column.missing for column in copy.columns[1:]] == [column.missing for column in table.columns[1:]]


def test_default_is_an_expression_where_it_is_none_of_the_values(database: MysqlDatabase, read: Read):
    if database.version == "8.0":  # 8.0.15 has some, and these are they
        database.execute("CREATE TABLE t (a INT DEFAULT (1 + 2), b VARCHAR(40) DEFAULT (CONCAT('a''b\\\\c', 'x')))")
    else:
        database.execute(
            "CREATE TABLE t (a INT DEFAULT (1 + 2), b VARCHAR(40) DEFAULT (CONCAT('a''b\\\\c', 'x')),"
            " c VARCHAR(40) DEFAULT (UUID()),"
            " d DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3))"
        )
    table = read(database)["t"]
    assert all(column.default and column.missing is None for column in table.columns)
    again = ", ".join(f"{column.name} {column.type.text} DEFAULT {column.default}" for column in table.columns)
    database.execute(f"CREATE TABLE again ({again})")
    database.execute("INSERT INTO again () VALUES ()")
    assert database.query("SELECT a, b FROM again") == [(3, "a'b\\cx")]


def test_generated_columns_keep_their_expression(database: MysqlDatabase, read: Read):
    database.execute(
        "CREATE TABLE t (a INT PRIMARY KEY, s INT AS (a + 1) STORED, v VARCHAR(30) AS (CONCAT('it''s ', a)) VIRTUAL)"
    )
    table = read(database)["t"]
    assert [column.generated for column in table.columns] == ["", "stored", "virtual"]
    stored, virtual = table.columns[1].default, table.columns[2].default
    database.execute(f"CREATE TABLE again (a INT PRIMARY KEY, s INT AS ({stored}), v VARCHAR(30) AS ({virtual}))")
    database.execute("INSERT INTO again (a) VALUES (4)")
    assert database.query("SELECT s, v FROM again") == [(5, "it's 4")]


def test_key_is_the_primary_key_or_what_the_server_takes_for_one(database: MysqlDatabase, read: Read):
    database.execute(
        "CREATE TABLE p (b INT, a INT, c INT NOT NULL UNIQUE, PRIMARY KEY (b, a));"
        "CREATE TABLE u (b INT NOT NULL, a INT NOT NULL, n INT UNIQUE, UNIQUE KEY zz (a), UNIQUE KEY aa (b));"
        "CREATE TABLE nullable (a INT UNIQUE);"
        "CREATE TABLE pre (a VARCHAR(20) NOT NULL, UNIQUE KEY k (a(3)));"
        "CREATE TABLE gen (a INT NOT NULL, g INT AS (a + 1) STORED NOT NULL, b INT NOT NULL UNIQUE, UNIQUE KEY a (g))"
        if database.server.flavour == "mysql"
        else "CREATE TABLE p (b INT, a INT, c INT NOT NULL UNIQUE, PRIMARY KEY (b, a));"
        "CREATE TABLE u (b INT NOT NULL, a INT NOT NULL, n INT UNIQUE, UNIQUE KEY zz (a), UNIQUE KEY aa (b));"
        "CREATE TABLE nullable (a INT UNIQUE);"
        "CREATE TABLE pre (a VARCHAR(20) NOT NULL, UNIQUE KEY k (a(3)));"
        "CREATE TABLE gen (a INT NOT NULL, g INT AS (a + 1) STORED, b INT NOT NULL UNIQUE, UNIQUE KEY a (g))"
    )
    found = read(database)
    assert (found["p"].key, found["p"].primary_key) == (("b", "a"), ("b", "a"))
    assert (found["u"].key, found["u"].primary_key) == (("a",), ())  # zz was first, and is what MINIMAL images hold
    assert found["nullable"].key == ()
    assert found["pre"].key == ("a",)
    assert found["gen"].key == ("b",)
    assert {table.identity for table in found.values()} == {ReplicaIdentity.FULL}


def test_minimal_row_image_has_the_key_of_old_rows_and_all_of_a_row_without_one(
    server: MysqlServer, database: MysqlDatabase, read: Read
):
    database.execute("CREATE TABLE k (a INT PRIMARY KEY); CREATE TABLE n (a INT)")
    server.configure(binlog_row_image="'MINIMAL'")
    try:
        found = read(database)
    finally:
        server.configure(binlog_row_image="'FULL'")
    assert found["k"].identity is ReplicaIdentity.DEFAULT
    assert found["n"].identity is ReplicaIdentity.FULL


def test_indexes_and_foreign_keys_can_be_made_again_from_their_definitions(database: MysqlDatabase, read: Read):
    database.execute(
        "CREATE TABLE parent (id INT PRIMARY KEY, x INT NOT NULL, y INT NOT NULL, UNIQUE KEY xy (x, y));"
        "CREATE TABLE t (id INT PRIMARY KEY, s VARCHAR(40), n TEXT, g POINT NOT NULL, a INT, b INT,"
        " UNIQUE KEY ab (a, b), KEY pre (s(5)), FULLTEXT KEY ft (n), SPATIAL KEY sp (g), KEY down (a DESC),"
        " CONSTRAINT one FOREIGN KEY (a) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE SET NULL,"
        " CONSTRAINT two FOREIGN KEY (a, b) REFERENCES parent (x, y))"
    )
    table = read(database)["t"]
    indexes = {index.name: index for index in table.indexes}
    assert set(indexes) == {"ab", "pre", "ft", "sp", "down"}
    assert (indexes["ab"].unique, indexes["ab"].columns) == (True, ("a", "b"))
    assert "`s`(5)" in indexes["pre"].definition
    assert [(key.name, key.columns, key.refers_columns) for key in table.foreign_keys] == [
        ("one", ("a",), ("id",)),
        ("two", ("a", "b"), ("x", "y")),
    ]
    assert table.foreign_keys[0].definition.endswith("ON DELETE CASCADE ON UPDATE SET NULL")
    for key in table.foreign_keys:
        database.execute(f"ALTER TABLE t DROP FOREIGN KEY {key.name}")
    for index in table.indexes:
        database.execute(f"DROP INDEX {index.name} ON t")
        database.execute(index.definition)
    for key in table.foreign_keys:
        database.execute(f"ALTER TABLE t ADD CONSTRAINT {key.name} {key.definition}")
    again = read(database)["t"]
    assert again.indexes == table.indexes
    assert again.foreign_keys == table.foreign_keys


def test_only_tables_of_people_are_read(server: MysqlServer, new_mysql_database: MakeMysqlDatabase):
    one, other = new_mysql_database(server, "one"), new_mysql_database(server, "other")
    one.execute(
        "CREATE TABLE `odd ``name` (`a ``b` INT PRIMARY KEY, `ü` INT DEFAULT 3, d BINARY(3) DEFAULT 'x')"
        " COMMENT 'hé''';"
        "CREATE VIEW v AS SELECT 1; CREATE TEMPORARY TABLE temp (a INT); CREATE TABLE part (a INT PRIMARY KEY)"
        " PARTITION BY HASH(a) PARTITIONS 3"
    )
    if server.flavour == "mariadb":
        one.execute("CREATE SEQUENCE seq")
    other.execute("CREATE TABLE t (a INT)")
    with connect(server.url(), side="source") as connection:
        kind = flavour(connection)
        found = tables(connection, kind)
        names = {table.name for table in found}
        assert {name.schema for name in names} >= {one.name, other.name}
        assert not {name.schema for name in names} & {"mysql", "sys", "information_schema", "performance_schema"}
        of_one = tables(connection, kind, one.name)
        assert [table.name.table for table in of_one] == ["odd `name", "part"]
        assert of_one[0].comment == "hé'"
        assert of_one[0].column_names == ("a `b", "ü", "d")
        assert of_one[0].column("d").missing == "\\x780000"
        for table in of_one:
            assert shape_of(connection, kind, table.name) == table
        assert shape_of(connection, kind, TableName(one.name, "v")) is None
        assert shape_of(connection, kind, TableName("no such database", "t")) is None


def test_estimates_are_of_now(server: MysqlServer, database: MysqlDatabase, read: Read):
    database.execute("CREATE TABLE t (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200))")
    assert read(database)["t"].estimated_rows == 0
    for _ in range(12):
        database.execute("INSERT INTO t (b) SELECT REPEAT('x', 100) FROM t UNION ALL SELECT 'y'")
    database.execute("ANALYZE TABLE t")
    table = read(database)["t"]
    assert 2000 < table.estimated_rows < 8000
    assert table.bytes > 100_000


def test_invisible_columns_and_primary_keys_are_ordinary_columns(mysql: MysqlDatabase, read: Read):
    mysql.execute(
        "SET sql_generate_invisible_primary_key = ON, show_gipk_in_create_table_and_information_schema = OFF;"
        "CREATE TABLE g (a INT); CREATE TABLE i (a INT PRIMARY KEY, b INT INVISIBLE)"
    )
    mysql.server.configure(show_gipk_in_create_table_and_information_schema="OFF")  # type: ignore[attr-defined]
    try:
        found = read(mysql)
    finally:
        mysql.server.configure(show_gipk_in_create_table_and_information_schema="ON")  # type: ignore[attr-defined]
    assert found["g"].column_names == ("my_row_id", "a")
    assert found["g"].key == found["g"].primary_key == ("my_row_id",)
    assert found["g"].columns[0].identity == "by default"
    assert found["i"].column_names == ("a", "b")


def test_functional_indexes_and_spatial_references_are_told(mysql: MysqlDatabase, read: Read):
    mysql.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, s VARCHAR(20), g POINT NOT NULL SRID 4326, h POINT,"
        " KEY f ((LOWER(s)), id), KEY hidden (s) INVISIBLE)"
    )
    table = read(mysql)["t"]
    assert (table.column("g").type.srid, table.column("h").type.srid) == (4326, -1)
    assert table.column_names == ("id", "s", "g", "h")
    indexes = {index.name: index for index in table.indexes}
    assert "((lower(`s`)), `id`)" in indexes["f"].definition
    assert indexes["f"].columns == ("id",)


def test_json_of_mariadb_is_json_only_where_its_check_says_so(mariadb: MysqlDatabase, read: Read):
    mariadb.execute(
        "CREATE TABLE t (a JSON, b LONGTEXT, c LONGTEXT CHECK (JSON_VALID(c)), d LONGTEXT CHECK (LENGTH(d) > 1),"
        " e JSON NOT NULL DEFAULT '{}', `f ``g` JSON);"
        "CREATE TABLE other (a LONGTEXT, z VARCHAR(100) COMPRESSED)"
    )
    found = read(mariadb)
    assert [column.logical for column in found["t"].columns] == [
        Logical.JSON,
        Logical.TEXT,
        Logical.JSON,
        Logical.TEXT,
        Logical.JSON,
        Logical.JSON,
    ]
    assert found["t"].column("a").type.text == "json"
    assert found["t"].column("e").missing == "{}"
    assert [described(column) for column in found["other"].columns] == [
        ("longtext", Logical.TEXT),
        ("varchar(100)", Logical.TEXT),
    ]


def test_versioned_table_has_its_period_behind_its_columns_and_not_in_its_key(mariadb: MysqlDatabase, read: Read):
    mariadb.execute(
        "CREATE TABLE hidden (a INT PRIMARY KEY, b INT) WITH SYSTEM VERSIONING;"
        "CREATE TABLE named (a INT PRIMARY KEY, s TIMESTAMP(6) GENERATED ALWAYS AS ROW START,"
        " e TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING"
    )
    found = read(mariadb)
    for name, columns in (("hidden", ("a", "b", "row_start", "row_end")), ("named", ("a", "s", "e"))):
        table = found[name]
        assert table.column_names == columns
        assert table.key == table.primary_key == ("a",)
        assert [column.default for column in table.columns[-2:]] == ["ROW START", "ROW END"]
        assert all(column.generated == "stored" for column in table.columns[-2:])


def test_thousands_of_tables_are_read_by_a_few_queries(mysql: MysqlDatabase):
    mysql.execute(";".join(f"CREATE TABLE t{number} (a INT PRIMARY KEY, b INT, KEY (b))" for number in range(300)))
    with connect(mysql.url, side="source") as connection:
        before = questions(connection)
        assert len(tables(connection, Flavour("mysql", (9, 7, 4)), mysql.name)) == 300
        assert questions(connection) - before < 15


def questions(connection: Connection[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        ((_, count),) = cursor.fetchall()
        return int(count)
