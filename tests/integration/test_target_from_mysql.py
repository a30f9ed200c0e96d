"""Tables of MySQL and MariaDB in PostgreSQL: made, loaded, changed, and each value there as the text that came."""

from __future__ import annotations

import base64
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cdcflow.engines.mysql.connect import connect, flavour
from cdcflow.errors import ConfigError, RowRejected
from cdcflow.model.change import SchemaChange
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.frame import UNCHANGED, Cell
from cdcflow.model.route import OnDelete, Route, ZeroDates
from cdcflow.model.schema import Column, ForeignKey, Index, Logical, NativeType, Table, TableName
from cdcflow.sources.mysql.catalog import tables
from cdcflow.targets.postgres import PostgresTarget
from cdcflow.targets.postgres.foreign import native, shortened
from tests.integration.target_feed import Fed
from tests.integration.target_shapes import route
from tests.servers.database import Database

# COLUMN_TYPE at the source, meaning, type at the target, values.
KINDS: dict[str, tuple[str, Logical, str, Sequence[str]]] = {
    "tiny": ("tinyint(1)", Logical.INT2, "smallint", ["-128", "127", "2"]),
    "utiny": ("tinyint unsigned", Logical.INT2, "smallint", ["0", "255"]),
    "small": ("smallint(6)", Logical.INT2, "smallint", ["-32768", "32767"]),
    "usmall": ("smallint unsigned", Logical.INT4, "integer", ["65535"]),
    "medium": ("mediumint", Logical.INT4, "integer", ["-8388608"]),
    "int": ("int", Logical.INT4, "integer", ["-2147483648", "2147483647"]),
    "uint": ("int(10) unsigned zerofill", Logical.INT8, "bigint", ["4294967295", "7"]),
    "big": ("bigint", Logical.INT8, "bigint", ["-9223372036854775808"]),
    "ubig": ("bigint unsigned", Logical.UINT8, "numeric(20,0)", ["18446744073709551615", "0"]),
    "year": ("year(4)", Logical.INT2, "smallint", ["0", "1901", "2155"]),
    "dec": ("decimal(10,2) unsigned", Logical.DECIMAL, "numeric(10,2)", ["0.10", "99999999.99"]),
    "long dec": ("decimal(65,30)", Logical.DECIMAL, "numeric(65,30)", ["-" + "9" * 35 + "." + "9" * 30]),
    "whole dec": ("decimal(10)", Logical.DECIMAL, "numeric(10,0)", ["-1234567890"]),
    "float": ("float(7,3)", Logical.FLOAT4, "real", ["0.1", "3.4028235e+38", "1e-07", "-0"]),
    "double": ("double unsigned", Logical.FLOAT8, "double precision", ["1e+20", "1.7976931348623157e+308", "0.1"]),
    "char": ("char(3)", Logical.TEXT, "character varying(3)", ["", "a", " é🐘", "abc"]),
    "varchar": ("varchar(20)", Logical.TEXT, "character varying(20)", ["a ", "tab\t\\N\r\n", "🐘" * 20]),
    "nothing": ("varchar(0)", Logical.TEXT, "text", [""]),
    "long": ("longtext", Logical.TEXT, "text", ["x" * 100_000, "'\"%s"]),
    "binary": ("binary(3)", Logical.BYTES, "bytea", ["\\x610000"]),
    "blob": ("mediumblob", Logical.BYTES, "bytea", ["\\x", "\\x00ff5c"]),
    "date": ("date", Logical.DATE, "date", ["0001-01-01", "1000-01-01", "9999-12-31"]),
    "datetime": (
        "datetime",
        Logical.TIMESTAMP,
        "timestamp(0) without time zone",
        ["1000-01-01 00:00:00", "9999-12-31 23:59:59"],
    ),
    "datetime6": ("datetime(6)", Logical.TIMESTAMP, "timestamp(6) without time zone", ["2024-02-29 12:00:00.000001"]),
    "timestamp": ("timestamp", Logical.TIMESTAMPTZ, "timestamp(0) with time zone", ["2038-01-19 03:14:07+00"]),
    "timestamp3": ("timestamp(3)", Logical.TIMESTAMPTZ, "timestamp(3) with time zone", ["1970-01-01 00:00:01.5+00"]),
    "time": ("time", Logical.INTERVAL, "interval", ["-838:59:59", "838:59:59", "00:00:00", "24:00:00"]),
    "time6": ("time(6)", Logical.INTERVAL, "interval", ["-00:00:00.000001", "12:34:56.5"]),
    "bit": ("bit(1)", Logical.BIT, "bit(1)", ["0", "1"]),
    "bits": ("bit(64)", Logical.BIT, "bit(64)", ["1" * 64, "01" * 32]),
    "enum": ("enum('a','it''s','')", Logical.ENUM, "text", ["a", "it's", ""]),
    "set": ("set('a','b')", Logical.SET, "text", ["a,b", "", "b"]),
    "json": ("json", Logical.JSON, "json", ['{"a": 1, "b": [1.10, "\\u0000 é"]}', "null", '"x"', '{"a":1,"a":2}']),
    "point": ("point", Logical.GEOMETRY, "text", ["0101000020E6100000000000000000F03F0000000000000040"]),
    "vector": ("vector(2)", Logical.ARRAY, "real[]", ["{1,2.5}", "{1e-07,-0}"]),
    "uuid": ("uuid", Logical.UUID, "uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "inet6": ("inet6", Logical.TEXT, "text", ["::1", "::ffff:1.2.3.4"]),
    "inet4": ("inet4", Logical.TEXT, "text", ["255.0.0.1"]),
}

ONE = Chunk(1, 0, "", "")
UNICODE_TABLE = "Bestellungen mit ü 😀"


def my(name: str, kind: str = "varchar(20)", logical: Logical = Logical.TEXT, **more: Any) -> Column:
    """Return a column as the catalog of a MySQL source tells it."""
    return Column(name, NativeType(kind, unsigned="unsigned" in kind), logical, **more)


def my_id(**more: Any) -> Column:
    return my("id", "int", Logical.INT4, nullable=False, **more)


def my_table(*columns: Column, name: str = "shop.t", key: tuple[str, ...] = ("id",), **more: Any) -> Table:
    schema, _, plain = name.partition(".")
    numbered = tuple(replace(c, number=c.number or at) for at, c in enumerate(columns, 1))
    more.setdefault("primary_key", key)
    more.setdefault("engine", "mysql")
    return Table(TableName(schema, plain), abs(hash(name)) >> 1, numbered, key, **more)


@pytest.fixture
def fed(target_db: Database) -> Iterator[Fed]:
    fed = Fed(target_db)
    yield fed
    fed.close()


def done(rows: int, size: int) -> DoneChunk:
    return DoneChunk(ONE, "0/1", "", rows, size)


def copy_line(cells: Sequence[bytes | None]) -> bytes:
    """Write one row as a snapshot's COPY text."""
    marks = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))

    def written(cell: bytes | None) -> bytes:
        if cell is None:
            return b"\\N"
        for mark, escaped in marks:
            cell = cell.replace(mark, escaped)
        return cell

    return b"\t".join(map(written, cells)) + b"\n"


def types_of(database: Database, table: str = "shop.t") -> dict[str, tuple[str, bool, str | None]]:
    """Return type, NOT NULL and default of each column."""
    rows = database.query(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    return {name: (kind, not_null, default) for name, kind, not_null, default in rows}


def texts(database: Database, column: str) -> list[str | None]:
    quoted = '"' + column.replace('"', '""') + '"'
    return [text for (text,) in database.query(f"SELECT {quoted}::text FROM shop.t ORDER BY id")]


def every_kind(engine: str = "mysql") -> tuple[Table, list[list[Cell]]]:
    """Return a table with a column of each kind, and rows that hold all its values, and NULL."""
    columns = [my(name, kind, logical) for name, (kind, logical, _, _) in KINDS.items()]
    table = my_table(my_id(), *columns, engine=engine)
    count = max(len(values) for *_, values in KINDS.values()) + 1
    rows: list[list[Cell]] = []
    for number in range(count):
        values: list[Cell] = [str(number).encode()]
        for *_, known in KINDS.values():
            values.append(known[number % len(known)].encode() if number < count - 1 else None)
        rows.append(values)
    return table, rows


def check_texts(database: Database, rows: list[list[Cell]]) -> None:
    for place, name in enumerate(KINDS, 1):
        wanted = [cell.decode() if isinstance(cell, bytes) else None for cell in (row[place] for row in rows)]
        assert texts(database, name) == wanted, name


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_every_kind_is_made_and_copied_with_its_text(fed: Fed, target_db: Database, engine: str) -> None:
    table, rows = every_kind(engine)
    wanted = route(table)
    fed.target.create(wanted)
    assert {name: kind for name, (kind, _, _) in types_of(target_db).items() if name != "id"} == {
        name: kind for name, (_, _, kind, _) in KINDS.items()
    }
    loader = fed.target.loader()
    block = b"".join(copy_line([cell if isinstance(cell, bytes) else None for cell in row]) for row in rows)
    loader.load(wanted, ONE, [block], done, merge=False)
    loader.load(wanted, replace(ONE, number=1), [block], lambda r, s: replace(done(r, s), chunk=ONE), merge=True)
    loader.close()
    check_texts(target_db, rows)


@pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])
@pytest.mark.parametrize("keyed", [True, False], ids=["by key", "without a key"])
def test_every_kind_is_written_changed_and_found_again(fed: Fed, target_db: Database, large: bool, keyed: bool) -> None:
    table, rows = every_kind()
    wanted = route(table if keyed else replace(table, key=(), primary_key=()))
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, row) for row in rows], large=large)
    check_texts(target_db, rows)
    turned = [[row[0], *other[1:]] for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    fed.apply(wanted, [("U", row, new) for row, new in zip(rows, turned, strict=True)], large=large)
    check_texts(target_db, turned)
    partial: list[Cell] = [b"0", *([UNCHANGED] * len(KINDS))]
    if keyed:
        fed.apply(wanted, [("U", partial, [*partial[:-1], b"10.0.0.1"])], large=large)
        check_texts(target_db, [[*turned[0][:-1], b"10.0.0.1"], *turned[1:]])
        fed.apply(wanted, [("D", [row[0], *partial[1:]], None) for row in turned], large=large)
    else:
        fed.apply(wanted, [("D", row, None) for row in turned], large=large)
    assert target_db.value("SELECT count(*) FROM shop.t") == 0


def test_making_a_table_twice_changes_nothing_and_check_finds_nothing(fed: Fed, target_db: Database) -> None:
    table, _ = every_kind()
    fed.target.create(route(table))
    before = types_of(target_db)
    fed.target.create(route(table))
    fed.target.clear(route(table), route(table))
    assert types_of(target_db) == before
    assert not [each for each in fed.target.check([route(table)]) if each.level != "ok"]


def test_geometry_is_postgis_where_the_target_has_it() -> None:
    shape = my("g", "polygon", Logical.GEOMETRY)
    assert native(shape, "mysql", geometry="public.geometry") == "public.geometry"
    assert native(shape, "mysql") == "text"
    assert native(Column("g", NativeType("polygon"), Logical.GEOMETRY), "postgresql") == "polygon"


DATED = [
    my("d", "date", Logical.DATE, nullable=False),
    my("s", "datetime(3)", Logical.TIMESTAMP, nullable=False),
    my("z", "timestamp", Logical.TIMESTAMPTZ, nullable=False),
]


@pytest.mark.parametrize("policy", ZeroDates)
def test_only_dates_that_may_become_null_lose_their_not_null(fed: Fed, target_db: Database, policy: ZeroDates) -> None:
    key = my("k", "date", Logical.DATE, nullable=False)
    other = my("v", nullable=False)
    fed.target.create(route(my_table(my_id(), key, *DATED, other, key=("id", "k")), zero_dates=policy))
    not_null = {name: found[1] for name, found in types_of(target_db).items()}
    assert not_null["id"] is not_null["k"] is not_null["v"] is True
    assert {not_null[name] for name in "dsz"} == {policy is not ZeroDates.NULL}


DEFAULTS: list[tuple[Column, str | None]] = [
    (my("c", "int", Logical.INT4, default="'5'", missing="5"), "5"),
    (my("c", "bigint unsigned", Logical.UINT8, default="7", missing="7"), "'7'::numeric(20,0)"),
    (my("c", "varchar(9)", default="'it''s'", missing="it's"), "'it''s'::character varying(9)"),
    (my("c", "bit(4)", Logical.BIT, default="b'101'", missing="0101"), "'0101'::bit(4)"),
    (my("c", "varbinary(9)", Logical.BYTES, default="0x00", missing="\\x00"), "'\\x00'::bytea"),
    (my("c", "date", Logical.DATE, default="'2024-01-31'", missing="2024-01-31"), "'2024-01-31'::date"),
    (my("c", "date", Logical.DATE, default="'0000-00-00'", missing="0000-00-00"), None),
    (my("c", "datetime(3)", Logical.TIMESTAMP, default="CURRENT_TIMESTAMP(3)"), "LOCALTIMESTAMP(3)"),
    (my("c", "timestamp", Logical.TIMESTAMPTZ, default="current_timestamp()"), "CURRENT_TIMESTAMP(0)"),
    (my("c", "date", Logical.DATE, default="(curdate())"), "CURRENT_DATE"),
    (my("c", "varchar(36)", default="(uuid())"), None),
    (my("c", default="NULL", missing=None), None),
]


@pytest.mark.parametrize(("column", "wanted"), DEFAULTS)
def test_a_default_that_means_the_same_is_kept(
    fed: Fed, target_db: Database, column: Column, wanted: str | None
) -> None:
    fed.target.create(route(my_table(my_id(), column)))
    assert types_of(target_db)["c"][2] == wanted
    target_db.execute("INSERT INTO shop.t (id) VALUES (1)")


def test_a_zero_default_becomes_the_epoch_where_the_rules_say_so(fed: Fed, target_db: Database) -> None:
    zero = my("c", "datetime", Logical.TIMESTAMP, default="'0000-00-00 00:00:00'", missing="0000-00-00 00:00:00")
    fed.target.create(route(my_table(my_id(), zero), zero_dates=ZeroDates.EPOCH))
    target_db.execute("INSERT INTO shop.t (id) VALUES (1)")
    assert texts(target_db, "c") == ["1970-01-01 00:00:00"]


@pytest.mark.parametrize(
    ("kind", "logical"), [("int", Logical.INT4), ("int unsigned", Logical.INT8), ("bigint unsigned", Logical.UINT8)]
)
@pytest.mark.parametrize("name", ["shop.t", "shop." + "t" * 63])
def test_auto_increment_goes_on_behind_what_was_copied(
    fed: Fed, target_db: Database, kind: str, logical: Logical, name: str
) -> None:
    number = my("id", kind, logical, nullable=False, identity="by default")
    wanted = route(my_table(number, my("v"), name=name))
    fed.target.create(wanted)
    target_db.execute(f"INSERT INTO {name} VALUES (41, 'x')")
    fed.target.finish([wanted])
    assert target_db.value(f"INSERT INTO {name} (v) VALUES ('y') RETURNING id") == 42
    fed.target.finish([wanted])
    assert target_db.value(f"INSERT INTO {name} (v) VALUES ('y') RETURNING id") == 43


def test_auto_increment_that_grows_past_what_an_identity_can_be(fed: Fed, target_db: Database) -> None:
    old = route(my_table(my_id(identity="by default"), my("v")))
    new = replace(old.source.columns[0], type=NativeType("bigint unsigned"), logical=Logical.UINT8)
    then = route(replace(old.source, columns=(new, old.source.columns[1])))
    fed.target.create(old)
    fed.send(SchemaChange(old, then), fed.rows(then, [("I", None, [b"18446744073709551615", b"x"])]))
    assert texts(target_db, "id") == ["18446744073709551615"]
    target_db.execute("DELETE FROM shop.t")
    fed.target.finish([then])
    assert target_db.value("INSERT INTO shop.t (v) VALUES ('y') RETURNING id") == 1


def test_generated_columns_are_not_there(fed: Fed, target_db: Database) -> None:
    columns = (my("a", default="concat(`id`,'x')", generated=kind) for kind in ("stored", "virtual"))
    named = (replace(each, name=name) for each, name in zip(columns, "ab", strict=True))
    fed.target.create(route(my_table(my_id(), *named)))
    assert list(types_of(target_db)) == ["id"]


def indexes_of(database: Database) -> list[str]:
    rows = database.query("SELECT indexdef FROM pg_indexes WHERE schemaname = 'shop' ORDER BY 1")
    return sorted(str(text).partition(" INDEX ")[2] for (text,) in rows)


INDEXES = (
    Index("PRIMARY", ("id",), True, "PRIMARY KEY (`id`)"),
    Index("v", ("v", "order"), False, "KEY `v` (`v` DESC,`order`) USING BTREE"),
    Index("u", ("order",), True, "UNIQUE KEY `u` (`order`)"),
    Index("prefix", ("v",), False, "KEY `prefix` (`v`(10))"),
    Index("words", ("v",), False, "FULLTEXT KEY `words` (`v`)"),
    Index("places", ("v",), False, "SPATIAL KEY `places` (`v`)"),
    Index("made", ("",), False, "KEY `made` ((lower(`v`)))"),
    Index("i" * 64, ("id", "v"), False, f"KEY `{'i' * 64}` (`id`,`v`)"),
    Index("FULLTEXT", ("order", "v"), False, "KEY `FULLTEXT` (`order`,`v`)"),
)


def test_indexes_are_made_by_their_columns_once(fed: Fed, target_db: Database) -> None:
    wanted = route(my_table(my_id(), my("v"), my("order"), indexes=INDEXES), rename={"v": "Value"})
    fed.target.create(wanted)
    fed.target.finish([wanted])
    made = indexes_of(target_db)
    assert made == [
        '"t_FULLTEXT" ON shop.t USING btree ("order", "Value")',
        shortened("t_" + "i" * 64) + ' ON shop.t USING btree (id, "Value")',
        "t_pkey ON shop.t USING btree (id)",
        't_u ON shop.t USING btree ("order")',
        't_v ON shop.t USING btree ("Value", "order")',
    ]
    fed.target.finish([wanted])
    assert indexes_of(target_db) == made


def test_foreign_keys_are_made_by_their_columns_with_their_actions(fed: Fed, target_db: Database) -> None:
    definition = "FOREIGN KEY (`p`) REFERENCES `parent` (`id`) ON DELETE SET NULL ON UPDATE CASCADE"
    key = ForeignKey("f" * 64, ("p",), TableName("shop", "parent"), ("id",), definition)
    parent = route(my_table(my_id(), name="shop.parent"), rename={"id": "number"})
    child = route(my_table(my_id(), my("p", "int", Logical.INT4), foreign_keys=(key,)))
    for each in (parent, child, parent, child):
        fed.target.create(each)
        fed.target.finish([parent, child])
    assert target_db.query("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'") == [
        (
            shortened("f" * 64),
            "FOREIGN KEY (p) REFERENCES shop.parent(number) ON UPDATE CASCADE ON DELETE SET NULL",
        )
    ]


def test_what_the_source_says_with_no_word_here_is_left_out_and_logged(
    fed: Fed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = my("g", default="concat(`v`)", generated="stored")
    wanted = route(my_table(my_id(), my("v", default="(uuid())"), made, indexes=INDEXES[3:7]))
    fed.target.create(wanted)
    fed.target.finish([wanted])
    for words in ("left out a default", "left out a generated column", "left out an index"):
        assert words in caplog.text


def change(fed: Fed, old: Route, *columns: Column, rows: Sequence[list[Cell]] = ()) -> Route:
    """Alter the table at the source, and apply that with the rows behind it."""
    new = replace(route(replace(old.source, columns=columns)), zero_dates=old.zero_dates)
    fed.send(SchemaChange(old, new), *([fed.rows(new, [("I", None, row) for row in rows])] if rows else []))
    return new


ADDED: list[tuple[Column, str | None]] = [
    (my("c", "int", Logical.INT4, default="'5'", missing="5"), "5"),
    (my("c", "int", Logical.INT4, nullable=False, missing="0"), "0"),
    (my("c", "varchar(5)", nullable=False, missing=""), ""),
    (my("c", "varchar(5)"), None),
    (my("c", "binary(2)", Logical.BYTES, nullable=False, missing="\\x0000"), "\\x0000"),
    (my("c", "decimal(5,2)", Logical.DECIMAL, nullable=False, missing="0.00"), "0.00"),
    (my("c", "date", Logical.DATE, nullable=False, missing="0000-00-00"), None),
    (my("c", "timestamp", Logical.TIMESTAMPTZ, missing="2024-01-01 10:00:00+00"), "2024-01-01 10:00:00+00"),
]


@pytest.mark.parametrize(("column", "older"), ADDED)
def test_an_added_column_holds_in_older_rows_what_it_holds_at_the_source(
    fed: Fed, target_db: Database, column: Column, older: str | None
) -> None:
    old = route(my_table(my_id()))
    fed.target.create(old)
    fed.apply(old, [("I", None, [b"1"])])
    change(fed, old, old.source.columns[0], replace(column, number=2))
    assert texts(target_db, "c") == [older]


def test_columns_are_dropped_renamed_and_widened_as_at_the_source(fed: Fed, target_db: Database) -> None:
    columns = my_id(number=1), my("a", number=2), my("n", "int", Logical.INT4, number=3), my("gone", number=4)
    old = route(my_table(*columns))
    fed.target.create(old)
    fed.apply(old, [("I", None, [b"1", b"x", b"5", b"z"])])
    wide = my("n", "bigint unsigned", Logical.UINT8, number=3)
    long = my("b", "varchar(200)", number=2)
    new = change(fed, old, columns[0], long, wide, rows=[[b"2", b"y" * 200, b"18446744073709551615"]])
    assert texts(target_db, "b") == ["x", "y" * 200]
    assert texts(target_db, "n") == ["5", "18446744073709551615"]
    precise = my("n", "decimal(22,2)", Logical.DECIMAL, number=3)
    last = change(fed, new, columns[0], precise, replace(long, name="c"), rows=[[b"3", b"0.25", b"z"]])
    assert texts(target_db, "c") == ["x", "y" * 200, "z"]
    assert texts(target_db, "n") == ["5.00", "18446744073709551615.00", "0.25"]
    fed.target.create(last)
    assert {name: found[0] for name, found in types_of(target_db).items()} == {
        "id": "integer",
        "c": "character varying(200)",
        "n": "numeric(22,2)",
    }


def test_a_policy_that_lets_dates_be_null_takes_their_not_null_away(fed: Fed, target_db: Database) -> None:
    strict = route(my_table(my_id(), *DATED), zero_dates=ZeroDates.EPOCH)
    fed.target.create(strict)
    loose = replace(strict, zero_dates=ZeroDates.NULL)
    fed.target.clear(loose, strict)
    assert not any(types_of(target_db)[name][1] for name in "dsz")
    fed.apply(loose, [("I", None, [b"1", None, None, None])])
    fed.target.clear(strict, loose)
    assert all(types_of(target_db)[name][1] for name in "dsz")


def test_a_table_of_a_persons_own_may_have_types_that_take_the_text(fed: Fed, target_db: Database) -> None:
    target_db.execute("CREATE SCHEMA shop; CREATE TABLE shop.t (id bigint PRIMARY KEY, f boolean, n text, j jsonb)")
    flag, number = my("f", "tinyint(1)", Logical.INT2), my("n", "bigint unsigned", Logical.UINT8)
    wanted = route(my_table(my_id(), flag, number, my("j", "json", Logical.JSON)))
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"1", b"1", b"5", b'{"b": 1, "a": 2}'])])
    assert target_db.query("SELECT f, n, j::text FROM shop.t") == [(True, "5", '{"a": 2, "b": 1}')]


def test_soft_deletes_are_marked(fed: Fed, target_db: Database) -> None:
    wanted = route(my_table(my_id(), my("v")), on_delete=OnDelete.SOFT)
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"1", b"x"]), ("D", [b"1", UNCHANGED], None)])
    assert target_db.query("SELECT id, cdcflow_deleted_at IS NULL FROM shop.t") == [(1, False)]


# -- U+0000, which MySQL's text may hold

NUL = my_table(my_id(), my("v"), my("w"))


def refused(caught: pytest.ExceptionInfo[RowRejected]) -> None:
    assert "U+0000" in caught.value.what
    assert "table shop.t" in caught.value.at
    assert "id" in caught.value.at
    assert "17" in caught.value.at
    assert "column" in caught.value.at
    assert "secret" not in caught.value.report()


@pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])
@pytest.mark.parametrize("keyed", [True, False], ids=["by key", "without a key"])
def test_text_with_the_character_zero_is_refused_and_never_cut(
    fed: Fed, target_db: Database, large: bool, keyed: bool
) -> None:
    wanted = route(NUL if keyed else replace(NUL, key=(), primary_key=()))
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"17", b"x", b"y"])])
    before = fed.target.flush(force=True)
    with pytest.raises(RowRejected) as caught:
        fed.apply(
            wanted,
            [("I", None, [b"18", b"x", b""]), ("U", [b"17", b"x", b"y"], [b"17", b"x", b"secret\0z"])],
            large=large,
        )
    if keyed:
        refused(caught)
    with pytest.raises(RowRejected) as caught:
        fed.apply(wanted, [("I", None, [b"1", b"x", b""]), ("I", None, [b"17", b"secret\0z", b"y"])], large=large)
    assert "U+0000" in caught.value.what
    assert target_db.query("SELECT id, v, w FROM shop.t") == [(17, "x", "y")]
    fed.target.begin("p", fed.epoch)
    assert before is not None
    assert target_db.value("SELECT position FROM cdcflow.checkpoints") == str(before)


def test_a_key_with_the_character_zero_is_refused(fed: Fed, target_db: Database) -> None:
    wanted = route(my_table(my("id", nullable=False), my("v")))
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"a", b"x"])])
    with pytest.raises(RowRejected) as caught:
        fed.apply(wanted, [("D", [b"a\0b", UNCHANGED], None)] * 2, large=True)
    assert "a\\0b" in caught.value.at
    assert texts(target_db, "v") == ["x"]


@pytest.mark.parametrize("merge", [False, True])
def test_a_copied_text_with_the_character_zero_is_refused(fed: Fed, target_db: Database, merge: bool) -> None:
    wanted = route(NUL)
    fed.target.create(wanted)
    loader = fed.target.loader()
    with pytest.raises(RowRejected) as caught:
        loader.load(wanted, ONE, [b"1\ta\tb\n17\tx\tsecret\0z\n", b"18\ta\tb\n"], done, merge=merge)
    refused(caught)
    assert "column w" in caught.value.at
    loader.close()
    assert target_db.value("SELECT count(*) FROM shop.t") == 0


# -- names


@pytest.mark.parametrize("name", ["Mixed Case", "50%", "a.b", "x`y", UNICODE_TABLE, "%s"])
def test_names_are_kept(target_db: Database, name: str) -> None:
    target = PostgresTarget(target_db.url, "shop")
    source = replace(
        my_table(replace(my_id(identity="by default"), name=name), key=(name,)), name=TableName(name, name)
    )
    wanted = replace(route(source), target=TableName(name, name))
    target.create(wanted)
    target.finish([wanted])
    assert not [each for each in target.check([wanted]) if each.level != "ok"]
    assert target_db.query("SELECT schemaname, tablename FROM pg_tables WHERE tablename = %s", [name]) == [(name, name)]


def test_a_name_too_long_for_postgresql_is_a_blocker(target_db: Database) -> None:
    wanted = route(my_table(my_id(), my("c" * 64)))
    found = [each for each in PostgresTarget(target_db.url, "shop").check([wanted]) if each.level == "blocker"]
    assert [each.name for each in found] == ["target.name"]


@pytest.mark.parametrize(
    ("name", "column", "word"), [("pg_shop.t", "v", "pg_shop"), ("shop.t", "ctid", "ctid"), ("shop.t", "xmin", "xmin")]
)
def test_a_name_that_postgresql_keeps_for_itself_is_a_blocker(
    target_db: Database, name: str, column: str, word: str
) -> None:
    wanted = route(my_table(my_id(), my(column), name=name))
    target = PostgresTarget(target_db.url, "shop")
    found = [each for each in target.check([wanted]) if each.level == "blocker"]
    assert [(each.name, word in each.found) for each in found] == [("target.name", True)]
    with pytest.raises(ConfigError, match=word):
        target.create(wanted)


@pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])
def test_a_value_too_long_for_an_index_is_told_with_its_row(fed: Fed, target_db: Database, large: bool) -> None:
    wide = Index("v", ("v",), False, "CREATE INDEX `v` ON `shop`.`t` (`v`)")
    wanted = route(my_table(my_id(), my("v", "varchar(3072)"), indexes=(wide,)))
    fed.target.create(wanted)
    fed.target.finish([wanted])
    with pytest.raises(RowRejected) as caught:
        fed.apply(wanted, [("I", None, [b"17", base64.b85encode(random.Random(5).randbytes(2400))])], large=large)
    assert "17" in caught.value.at
    assert "t_v" in caught.value.why


# -- as the catalogs of real servers tell it

MADE = """
CREATE TABLE parent (id int unsigned PRIMARY KEY);
CREATE TABLE t (
  id bigint unsigned NOT NULL AUTO_INCREMENT,
  b tinyint(1) DEFAULT 1, m mediumint unsigned, y year, d decimal(12,3) NOT NULL DEFAULT '1.5', f float, g double,
  c char(5) CHARACTER SET latin1, v varchar(40) NOT NULL DEFAULT 'it''s', x longtext, bi binary(4), vb varbinary(9),
  da date NOT NULL DEFAULT '2020-02-02', dt datetime(3) DEFAULT CURRENT_TIMESTAMP(3), ti time(6),
  ts timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, bt bit(9) DEFAULT b'101',
  e enum('a','it''s') NOT NULL DEFAULT 'a', s set('x','y'), j json, po point, p int unsigned,
  gen int GENERATED ALWAYS AS (m + 1) STORED, vir int GENERATED ALWAYS AS (m + 2) VIRTUAL,
  PRIMARY KEY (id), UNIQUE KEY v (v), KEY two (m, y), KEY pre (v(5)), FULLTEXT KEY ft (x), KEY `50%` (da),
  CONSTRAINT fk FOREIGN KEY (p) REFERENCES parent (id) ON DELETE SET NULL
);
"""
THERE = {
    "id": ("numeric(20,0)", True, "nextval('shop.t_id_seq'::regclass)"),
    "b": ("smallint", False, "'1'::smallint"),
    "m": ("integer", False, None),
    "y": ("smallint", False, None),
    "d": ("numeric(12,3)", True, "1.500::numeric(12,3)"),
    "f": ("real", False, None),
    "g": ("double precision", False, None),
    "c": ("character varying(5)", False, None),
    "v": ("character varying(40)", True, "'it''s'::character varying(40)"),
    "x": ("text", False, None),
    "bi": ("bytea", False, None),
    "vb": ("bytea", False, None),
    "da": ("date", False, "'2020-02-02'::date"),
    "dt": ("timestamp(3) without time zone", False, "LOCALTIMESTAMP(3)"),
    "ti": ("interval", False, None),
    "ts": ("timestamp(0) with time zone", False, "CURRENT_TIMESTAMP(0)"),
    "bt": ("bit(9)", False, "'000000101'::bit(9)"),
    "e": ("text", True, "'a'::text"),
    "s": ("text", False, None),
    "j": ("json", False, None),
    "po": ("text", False, None),
    "p": ("bigint", False, None),
}


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_a_table_is_made_as_the_servers_own_catalog_tells_it(
    fed: Fed, target_db: Database, request: pytest.FixtureRequest, engine: str
) -> None:
    source = request.getfixturevalue(f"{engine}_source_db")
    for statement in MADE.split(";\n")[:-1]:
        source.execute(statement)
    connection = connect(source.url, side="source", application="cdcflow test")
    with connection:
        found = tables(connection, flavour(connection), source.name)
    routes = [
        replace(route(each), target=TableName("shop", each.name.table))
        for each in found
        if each.name.table in ("t", "parent")
    ]
    for each in routes:
        fed.target.create(each)
    fed.target.finish(routes)
    made = types_of(target_db)
    assert made == THERE
    wanted = {"t_pkey": "(id)", "parent_pkey": "(id)", "t_v": "(v)", "t_two": "(m, y)", "t_50%": "(da)", "t_fk": "(p)"}
    rows = target_db.query("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'shop'")
    assert {name: text[text.rindex("(") :] for name, text in rows} == wanted
    keys = target_db.query("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'")
    assert keys == [("FOREIGN KEY (p) REFERENCES shop.parent(id) ON DELETE SET NULL",)]
    assert target_db.value("INSERT INTO shop.t DEFAULT VALUES RETURNING id::int") == 1
    for each in routes:
        fed.target.clear(each, each)
    fed.target.finish(routes)
    assert types_of(target_db) == made
    assert target_db.query("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'shop'") == rows
    assert not [each for each in fed.target.check(routes) if each.level != "ok"]
