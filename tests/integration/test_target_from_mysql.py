"""Tables of MySQL and MariaDB in PostgreSQL: made, loaded, changed, and each value there as the text that came."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from cdcflow.engines.mysql.connect import connect, flavour
from cdcflow.model.change import SchemaChange
from cdcflow.model.frame import UNCHANGED, Cell
from cdcflow.model.route import OnDelete, Route, ZeroDates
from cdcflow.model.schema import Column, ForeignKey, Index, Logical, NativeType, TableName
from cdcflow.sources.mysql.catalog import tables
from cdcflow.targets.postgres.foreign import native, shortened
from tests.integration.mysql_kinds import (
    KINDS,
    ONE,
    check_texts,
    copy_line,
    done,
    every_kind,
    my,
    my_id,
    my_table,
    texts,
    types_of,
)
from tests.integration.target_feed import Fed
from tests.integration.target_shapes import route
from tests.servers.database import Database


@pytest.fixture
def fed(target_db: Database) -> Iterator[Fed]:
    fed = Fed(target_db)
    yield fed
    fed.close()


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
