"""Shapes behind ALTER TABLE, and whether the rows must be copied again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.model.schema import Column, Index, Logical, TableName
from cdcflow.sources.mysql import reshape
from cdcflow.sources.mysql.ddl import intents
from cdcflow.sources.mysql.ddl_charsets import Charsets
from cdcflow.sources.mysql.ddl_intents import AlterTable, CreateTable
from cdcflow.sources.mysql.reshape import Outcome, Server, TableExtras

MYSQL = Flavour("mysql", (9, 7, 4))
MARIADB = Flavour("mariadb", (11, 4, 5))
STRICT = 1 << 21
CHARSETS = Charsets(
    {
        "latin1": "latin1_swedish_ci",
        "utf8mb4": "utf8mb4_0900_ai_ci",
        "utf8mb3": "utf8mb3_general_ci",
        "ascii": "ascii_general_ci",
        "binary": "binary",
    },
    {"latin1": 1, "utf8mb4": 4, "utf8mb3": 3, "ascii": 1, "binary": 1},
    {
        "latin1_swedish_ci": "latin1",
        "latin1_bin": "latin1",
        "utf8mb4_0900_ai_ci": "utf8mb4",
        "utf8mb4_bin": "utf8mb4",
        "utf8mb4_uca1400_ai_ci": "utf8mb4",
        "utf8mb3_general_ci": "utf8mb3",
        "ascii_general_ci": "ascii",
        "binary": "binary",
    },
)


def _server(flavour: Flavour = MYSQL, **settings: object) -> Server:
    return replace(Server(flavour, CHARSETS, "latin1_swedish_ci"), **settings)  # type: ignore[arg-type]


def _table(columns: str, flavour: Flavour = MYSQL) -> Outcome:
    (wanted,) = intents(f"CREATE TABLE t ({columns})", "shop", flavour)
    assert isinstance(wanted, CreateTable)
    made = reshape.create(wanted, server=_server(flavour))
    assert not made.uncertain, made.doubts
    return made


def _alter(before: Outcome, clauses: str, server: Server | None = None, read: reshape.Read | None = None) -> Outcome:
    (wanted,) = intents(f"ALTER TABLE t {clauses}", "shop", MYSQL)
    assert isinstance(wanted, AlterTable)
    return reshape.apply(before.table, wanted.changes, read, extras=before.extras, server=server or _server())


def _numbers(outcome: Outcome) -> dict[str, int]:
    return {column.name: column.number for column in outcome.table.columns}


def test_numbers_follow_columns_through_renames_and_are_never_used_twice() -> None:
    first = _table("a int, b int, c int")
    assert _numbers(first) == {"a": 1, "b": 2, "c": 3}
    second = _alter(first, "RENAME COLUMN a TO b, RENAME COLUMN b TO a, DROP c")
    assert _numbers(second) == {"b": 1, "a": 2}
    third = _alter(second, "ADD c int FIRST, CHANGE a z bigint AFTER c")
    assert _numbers(third) == {"c": 4, "z": 2, "b": 1}
    assert third.table.version == second.table.version + 1


def test_columns_without_numbers_are_numbered() -> None:
    made = _table("a int, b int")
    unknown = replace(made.table, columns=tuple(replace(each, number=0) for each in made.table.columns))
    assert _numbers(_alter(replace(made, table=unknown), "DROP a, ADD c int")) == {"b": 2, "c": 3}


def test_what_changes_nothing_leaves_the_shape_as_it_is() -> None:
    before = _table("a int PRIMARY KEY")
    assert _alter(before, "ENGINE=InnoDB, COMMENT 'x'").table is before.table
    assert _alter(before, "MODIFY a int").table is before.table  # still NOT NULL by its key


def test_names_of_columns_know_no_case() -> None:
    before = _table("Abc int, d int")
    assert _alter(before, "MODIFY aBC bigint AFTER D, ADD e int AFTER ABC").table.column_names == ("d", "aBC", "e")


def test_the_key_is_the_primary_key_or_a_unique_index_without_nulls() -> None:
    before = _table("a int, b int NOT NULL, c int NOT NULL, UNIQUE x (a), UNIQUE y (c), UNIQUE w (b)")
    assert before.table.key == ("c",)  # the first that was made
    assert _alter(before, "ADD PRIMARY KEY (b, c)").table.key == ("b", "c")
    assert _alter(before, "CHANGE c cc int NOT NULL").table.key == ("cc",)
    assert _alter(before, "DROP INDEX y").table.key == ("b",)
    assert _alter(before, "DROP INDEX y, MODIFY b int NULL").table.key == ()
    assert _alter(before, "DROP c").table.key == ("b",)
    assert [index.name for index in before.table.indexes] == ["w", "x", "y"]


def test_which_of_several_old_unique_indexes_is_taken_is_asked_of_the_server() -> None:
    before = _table("a int NOT NULL, b int NOT NULL, c int NOT NULL, UNIQUE x (a), UNIQUE y (b), UNIQUE z (c)")
    after = _alter(before, "DROP INDEX x")
    assert after.uncertain
    now = replace(after.table, key=("c",))
    assert _alter(before, "DROP INDEX x", read=lambda: now).table.key == ("c",)


def test_doubtful_columns_are_taken_from_the_server_with_their_numbers_kept() -> None:
    before = _table("a int, b int")
    (wanted,) = intents("ALTER TABLE t CHANGE b bb timestamp NULL DEFAULT '2024-01-01 00:00:00'", "shop", MYSQL)
    assert isinstance(wanted, AlterTable)
    blind = reshape.apply(before.table, wanted.changes, None, extras=before.extras, server=_server())
    assert blind.doubts == ("column bb: its default is a moment in the session's time zone",)
    stamp = replace(blind.table.columns[1], default="'2023-12-31 18:15:00'", missing="2023-12-31 18:15:00+00", number=0)
    seen = replace(blind.table, columns=(blind.table.columns[0], stamp))
    after = reshape.apply(before.table, wanted.changes, lambda: seen, extras=before.extras, server=_server())
    assert after.uncertain
    assert after.table.columns[1] == stamp
    assert _numbers(after) == {"a": 1, "bb": 2}


@pytest.mark.parametrize(
    "now", ["b int, c int, a bigint", "b int, a int", "a int, c int", "a int, b bigint", "a int, b int"]
)
def test_a_clause_that_is_not_understood_leaves_the_shape_to_be_compared_with_the_server_s(now: str) -> None:
    """Which may be that of days later."""
    before = _table("a int, b int")
    after = _alter(before, "FROB a", read=lambda: _table(now).table)
    assert after.uncertain
    assert after.table.columns == before.table.columns
    assert _numbers(after) == {"a": 1, "b": 2}
    assert _alter(before, "DROP nothing").uncertain


def test_the_key_behind_a_doubtful_statement_is_not_the_server_s_of_now() -> None:
    before = _table("a int PRIMARY KEY, b int NOT NULL")
    now = _table("a int NOT NULL, b int PRIMARY KEY").table
    assert _alter(before, "FROB a", read=lambda: now).table.key == ("a",)


def test_expressions_are_taken_in_the_server_s_words() -> None:
    before = _table("a int, b int AS (a + 1)")
    theirs = replace(before.table.columns[1], default="(`a` + 1)")
    now = replace(before.table, columns=(before.table.columns[0], theirs))
    assert _alter(before, "FROB a", read=lambda: now).table.columns == now.columns


def test_new_text_columns_have_their_table_s_charset() -> None:
    before = _table("a varchar(5), b text")
    assert before.table.columns[0].type.collation == "latin1_swedish_ci"
    after = _alter(before, "DEFAULT CHARSET utf8mb4, ADD c varchar(5), ADD d char(2) CHARSET latin1 COLLATE latin1_bin")
    assert [each.type.charset for each in after.table.columns] == ["latin1", "latin1", "utf8mb4", "latin1"]
    converted = _alter(before, "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    assert [each.type.text for each in converted.table.columns] == ["varchar(5)", "mediumtext"]
    assert converted.extras.collation == "utf8mb4_bin"
    assert _alter(before, "ADD c varchar(5) CHARSET klingon").uncertain


def test_a_table_s_default_charset_is_part_of_its_shape() -> None:
    before = _table("a varchar(5)")
    assert before.table.collation == "latin1_swedish_ci"
    after = _alter(before, "DEFAULT CHARSET utf8mb4")
    assert after.table.columns == before.table.columns
    assert after.table.collation == "utf8mb4_0900_ai_ci"
    assert after.table.version == before.table.version + 1
    assert _alter(after, "DEFAULT CHARSET utf8mb4").table is after.table


def test_like_copies_a_shape_under_another_name() -> None:
    made = _table("a int PRIMARY KEY, b varchar(5), UNIQUE u (b)")
    (wanted,) = intents("CREATE TABLE x LIKE t", "shop", MYSQL)
    assert isinstance(wanted, CreateTable)
    copy = reshape.create(wanted, server=_server(), like=made.table, collation="latin1_swedish_ci")
    assert copy.table.columns == made.table.columns
    assert copy.table.name == TableName("shop", "x")
    assert copy.table.id != made.table.id
    assert reshape.create(wanted, server=_server()).uncertain


def test_a_renamed_table_keeps_its_columns_and_indexes() -> None:
    made = _table("a int PRIMARY KEY, b int, KEY k (b DESC)")
    named = reshape.renamed(made.table, TableName("shop", "z"))
    assert named.columns == made.table.columns
    assert named.indexes == (Index("k", ("b",), False, "CREATE INDEX `k` ON `shop`.`z` (`b` DESC)"),)


def test_system_versioned_tables_are_always_asked_of_the_server() -> None:
    made = _table("a int")
    stamp = made.table.columns[0]
    hidden = replace(stamp, name="row_end", default="ROW END", generated="stored", number=2)
    table = replace(made.table, columns=(stamp, hidden))
    assert _alter(replace(made, table=table), "ADD b int").uncertain


def test_timestamps_without_explicit_defaults_are_asked_of_the_server() -> None:
    made = _table("a int")
    assert _alter(made, "ADD b timestamp", _server(explicit_timestamps=False)).uncertain
    assert not _alter(made, "ADD b timestamp NULL", _server(explicit_timestamps=False)).uncertain


def _column(definition: str) -> Column:
    return _table(f"a {definition}").table.columns[0]


SAME = """
int -> bigint; int -> int; tinyint -> smallint; int unsigned -> bigint; int unsigned -> bigint unsigned; bool -> int
varchar(10) -> varchar(20); varchar(10) -> text; char(5) -> varchar(5); tinytext -> longtext; char(3) -> char(9)
varchar(9) -> varchar(9) charset utf8mb4; varchar(9) charset ascii -> varchar(9); varchar(9) -> varchar(9) binary
decimal(8,2) -> decimal(10,2); decimal(8,2) -> decimal(10,4); varbinary(4) -> varbinary(9); varbinary(4) -> blob
datetime -> datetime(6); time(2) -> time(3); enum('a','b') -> enum('c','b','a'); set('a','b') -> set('a','b','c')
point -> geometry; int -> int default 5; int not null -> int; timestamp null -> timestamp(3) null
"""
CHANGED = """
bigint -> int; int -> int unsigned; bigint unsigned -> bigint; int -> varchar(20); varchar(20) -> int
varchar(20) -> varchar(10); varchar(5) -> char(5); text -> varchar(10); text -> tinytext; longtext -> text
varchar(9) charset utf8mb4 -> varchar(9); text -> blob; blob -> text; binary(4) -> binary(6); binary(4) -> varbinary(4)
decimal(10,4) -> decimal(10,2); decimal(10,2) -> decimal(10,4); float -> double; double -> float; float -> float(7,2)
datetime(6) -> datetime; datetime -> timestamp null; timestamp null -> datetime; date -> datetime; year -> int
enum('a','b') -> enum('a'); enum('a','b') -> set('a','b'); set('a','b') -> set('b','a'); enum('a') -> varchar(5)
bit(3) -> bit(5); geometry -> point; json -> text; text -> json; int -> int not null
int -> decimal(10); int not null -> int auto_increment key
int -> int as (1); int as (1) stored -> int; varchar(9) -> varchar(9) charset binary
"""


def _pairs(text: str) -> list[tuple[str, str]]:
    lines = [pair for line in text.strip().split("\n") for pair in line.split("; ")]
    return [(old.strip(), new.strip()) for old, _, new in (line.partition("->") for line in lines)]


@pytest.mark.parametrize(("old", "new"), _pairs(SAME))
def test_a_type_that_holds_more_needs_no_copy(old: str, new: str) -> None:
    before = _table(f"a {old}")
    (wanted,) = intents(f"ALTER TABLE t MODIFY a {new}", "shop", MYSQL)
    assert isinstance(wanted, AlterTable)
    after = _alter(before, f"MODIFY a {new}")
    assert not reshape.effect(before.table, after.table, wanted.changes).recopy


@pytest.mark.parametrize(("old", "new"), _pairs(CHANGED))
def test_a_conversion_that_only_the_server_can_do_needs_a_copy(old: str, new: str) -> None:
    before = _table(f"a {old}")
    found = reshape.effect(before.table, _alter(before, f"MODIFY a {new}").table)
    assert found.recopy
    assert found.why.startswith("column a ")


def test_in_strict_mode_the_server_refuses_what_would_change_values() -> None:
    for old, new in (("bigint", "tinyint"), ("int", "int NOT NULL"), ("decimal(9,2)", "decimal(7,2)")):
        before = _table(f"a {old}")
        after = _alter(before, f"MODIFY a {new}")
        assert reshape.effect(before.table, after.table).recopy
        assert not reshape.effect(before.table, after.table, sql_mode=STRICT).recopy


@pytest.mark.parametrize(
    ("definition", "recopy", "missing"),
    [
        ("int", False, None),
        ("int DEFAULT 5", False, "5"),
        ("int NOT NULL", False, "0"),
        ("varchar(5) NOT NULL", False, ""),
        ("enum('x','y') NOT NULL", False, "x"),
        ("binary(2) NOT NULL DEFAULT 'a'", False, "\\x6100"),
        ("decimal(5,2) DEFAULT 1.5", False, "1.50"),
        ("datetime(3) DEFAULT '2024-1-2 3:4:5.50'", False, "2024-01-02 03:04:05.5"),
        ("datetime DEFAULT CURRENT_TIMESTAMP", True, None),
        ("varchar(36) DEFAULT (uuid())", True, None),
        ("int AUTO_INCREMENT UNIQUE", True, None),
        ("int AS (a + 1)", True, None),
        ("json NOT NULL", True, None),
    ],
)
def test_an_added_column_needs_a_copy_where_the_server_filled_it(
    definition: str, recopy: bool, missing: str | None
) -> None:
    before = _table("a int PRIMARY KEY")
    after = _alter(before, f"ADD b {definition}")
    assert reshape.effect(before.table, after.table).recopy is recopy
    assert after.table.columns[1].missing == missing


def test_dropping_and_adding_one_name_is_another_column() -> None:
    before = _table("a text, b int")
    after = _alter(before, "DROP b, ADD b varchar(5)")
    assert not reshape.effect(before.table, after.table).recopy
    assert _numbers(after)["b"] == 3


def test_rows_that_change_without_events_need_a_copy() -> None:
    before = _table("a int")
    for clause in ("DROP PARTITION p", "IMPORT TABLESPACE", "FROB"):
        (wanted,) = intents(f"ALTER TABLE t {clause}", "shop", MYSQL)
        assert isinstance(wanted, AlterTable)
        assert reshape.effect(before.table, before.table, wanted.changes).recopy
    (wanted,) = intents("ALTER IGNORE TABLE t ADD UNIQUE (a)", "shop", MARIADB)
    assert isinstance(wanted, AlterTable)
    assert reshape.effect(before.table, before.table, wanted.changes).recopy


def test_mariadb_s_json_and_types_of_its_own() -> None:
    made = _table("a json, b uuid, c inet6, d longtext CHECK (json_valid(d)), e text CHECK (e <> '')", MARIADB).table
    assert [each.type.text for each in made.columns] == ["json", "uuid", "inet6", "json", "text"]
    assert made.columns[0].logical is Logical.JSON


def test_what_table_extras_say_is_carried_on() -> None:
    outcome = _alter(_table("a int, b int"), "DROP b")
    assert outcome.extras == TableExtras("latin1_swedish_ci", 2)
