"""Tables of a MySQL or MariaDB target: how they are made, how they change, and a crash between a change and its
position."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdcflow.errors import Fenced, SchemaStop
from cdcflow.model.change import SchemaChange, Step, Truncate
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.route import OnDelete, SchemaChanges
from cdcflow.model.schema import ForeignKey, Index, TableName
from cdcflow.targets.mysql import applier, barriers, ddl
from tests.integration.mysql_feed import ID, Fed, V, after, column, fed, found, table

__all__ = ["fed"]


def _columns(fed: Fed, name: str = "t") -> list[str]:
    query = (
        "SELECT column_name FROM information_schema.columns"
        f" WHERE table_schema = '{fed.database.name}' AND table_name = '{name}' ORDER BY ordinal_position"
    )
    return [str(row[0]) for row in fed.database.query(query)]


def _comment(fed: Fed) -> str:
    query = "SELECT table_comment FROM information_schema.tables WHERE table_name = 't' AND table_schema"
    return str(fed.database.query(f"{query} = '{fed.database.name}'")[0][0])


CRASHES = pytest.mark.parametrize("crash", [False, True], ids=["straight", "crash before the position"])


class _Killed(Exception):
    """The process ended here."""


def _send(fed: Fed, monkeypatch: pytest.MonkeyPatch, crash: bool, *steps: Step) -> None:
    """Apply a batch; with `crash` the process dies before the position moves, and another one applies it again."""
    batch = fed.batch(*steps, large=True)
    if crash:
        with monkeypatch.context() as patched:

            def die(*_: object) -> None:
                raise _Killed

            patched.setattr(applier.Applier, "_ended", die)
            with pytest.raises(_Killed):
                fed.target.apply(batch)
        fed.again()
    fed.target.apply(batch)
    assert fed.position() == str(batch.end)


@CRASHES
def test_a_column_is_added_renamed_and_dropped_between_rows(
    fed: Fed, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    one = fed.made(ID, V, column("w", "text", 3))
    two = after(fed, one, ID, replace(V, name="u"), column("n", "integer", 4, missing="7"))
    _send(
        fed, monkeypatch, crash,
        fed.rows(one, [("I", None, [b"1", b"a", b"x"]), ("I", None, [b"2", b"b", b"y"])]),
        SchemaChange(one, two),
        fed.rows(two, [("U", None, [b"1", b"c", b"5"]), ("I", None, [b"3", b"d", None])]),
    )  # fmt: skip
    assert found(fed, "SELECT id, u, n FROM t ORDER BY 1") == [(1, "c", 5), (2, "b", 7), (3, "d", None)]
    assert _columns(fed) == ["id", "u", "n"]


@CRASHES
def test_a_column_takes_the_place_of_an_indexed_one_of_its_name(
    fed: Fed, monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    """The servers would keep the index, with a length that is of the old column's type."""
    one = fed.made(ID, V, column("h", "timestamp without time zone", 3))
    fed.database.execute("ALTER TABLE t ADD INDEX plain (h), ADD INDEX both_ (h, id)")
    two = after(fed, one, ID, V, column("h", "integer", 4, missing="3"))
    _send(
        fed, monkeypatch, crash,
        fed.rows(one, [("I", None, [b"1", b"a", b"2024-01-01 00:00:00"])]),
        SchemaChange(one, two),
        fed.rows(two, [("I", None, [b"2", b"b", b"5"])]),
    )  # fmt: skip
    assert found(fed, "SELECT id, v, h FROM t ORDER BY 1") == [(1, "a", 3), (2, "b", 5)]


@CRASHES
def test_two_columns_swap_their_names(fed: Fed, monkeypatch: pytest.MonkeyPatch, crash: bool) -> None:
    one = fed.made(ID, column("a", "text", 2), column("b", "text", 3))
    two = after(fed, one, ID, column("b", "text", 2), column("a", "text", 3))
    _send(
        fed, monkeypatch, crash,
        fed.rows(one, [("I", None, [b"1", b"was a", b"was b"])]),
        SchemaChange(one, two),
        fed.rows(two, [("I", None, [b"2", b"now b", b"now a"])]),
    )  # fmt: skip
    assert found(fed, "SELECT id, a, b FROM t ORDER BY 1") == [(1, "was b", "was a"), (2, "now a", "now b")]


SWAPPED = [(1, "was b", "was a"), (2, "now a", "now b")]
ANEW = [(1, "7", "was b"), (2, "now a", "now b")]


@CRASHES
@pytest.mark.parametrize("marked", [True, False], ids=["", "made by an earlier build"])
@pytest.mark.parametrize(("a", "b", "rows"), [(3, 2, SWAPPED), (4, 3, ANEW)], ids=["swapped", "dropped and added"])
def test_names_stand_for_other_columns_in_a_shape_that_looks_the_same(
    fed: Fed, monkeypatch: pytest.MonkeyPatch, crash: bool, marked: bool, a: int, b: int, rows: object
) -> None:
    one = fed.made(ID, column("a", "text", 2), column("b", "text", 3))
    if not marked:
        fed.database.execute(f"ALTER TABLE t COMMENT = '{_comment(fed)[:-9]}]'")
    two = after(fed, one, ID, column("a", "text", a, missing="7"), column("b", "text", b))
    _send(
        fed, monkeypatch, crash,
        fed.rows(one, [("I", None, [b"1", b"was a", b"was b"])]),
        SchemaChange(one, two),
        fed.rows(two, [("I", None, [b"2", b"now a", b"now b"])]),
    )  # fmt: skip
    assert found(fed, "SELECT id, a, b FROM t ORDER BY 1") == rows
    assert ddl.seal(two) in _comment(fed)
    fed.send(SchemaChange(one, two))  # once more: it is done
    assert found(fed, "SELECT id, a, b FROM t ORDER BY 1") == rows


@CRASHES
def test_a_column_of_the_key_is_dropped_and_added_anew(fed: Fed, monkeypatch: pytest.MonkeyPatch, crash: bool) -> None:
    k = column("k", "integer", 2, nullable=False)
    one = fed.made(ID, k, column("v", "text", 3), key=("id", "k"))
    two = after(fed, one, ID, replace(k, number=4, missing="0"), column("v", "text", 3))
    _send(
        fed, monkeypatch, crash,
        fed.rows(one, [("I", None, [b"1", b"5", b"a"]), ("I", None, [b"2", b"5", b"b"])]),
        SchemaChange(one, two),
        fed.rows(two, [("U", None, [b"1", b"0", b"c"]), ("I", None, [b"1", b"5", b"d"])]),
    )  # fmt: skip
    assert found(fed, "SELECT id, k, v FROM t ORDER BY 1, 2") == [(1, 0, "c"), (1, 5, "d"), (2, 0, "b")]


def test_a_table_is_copied_again_whose_column_was_dropped_and_added_anew(fed: Fed) -> None:
    one = fed.made(ID, V)
    two = after(fed, one, ID, replace(V, number=3))
    fed.apply(one, [("I", None, [b"1", b"a"])])
    fed.target.clear(two, one)
    fed.target.create(two)
    fed.apply(two, [("I", None, [b"1", b"b"])])
    assert found(fed) == [(1, "b")]


def test_who_is_to_alter_a_table_that_looks_the_same_says_so_in_its_comment(fed: Fed) -> None:
    one = fed.made(ID, V)
    two = after(fed, one, ID, replace(V, number=3), schema_changes=SchemaChanges.STOP)
    with pytest.raises(SchemaStop) as caught:
        fed.send(SchemaChange(one, two))
    *statements, last = caught.value.do.split(";\n")
    assert last == "then start cdcflow again"
    for statement in statements:
        fed.database.execute(statement)
    fed.send(SchemaChange(one, two), fed.rows(two, [("I", None, [b"1", b"a"])]))
    assert found(fed) == [(1, "a")]


@pytest.mark.parametrize("first", [True, False], ids=["first in its batch", "behind rows"])
def test_a_fenced_writer_alters_and_truncates_nothing(fed: Fed, monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    monkeypatch.setattr(barriers, "_DELETED_ROWS", -1)  # every table is too large to be emptied by DELETE
    one = fed.made()
    fed.apply(one, [("I", None, [b"1", b"a"])])
    fed.store.acquire(fed.name, {"host": "here", "process": "2"})
    before: list[Step] = [] if first else [fed.rows(one, [("I", None, [b"2", b"b"])])]
    with pytest.raises(Fenced):
        fed.send(*before, SchemaChange(one, after(fed, one, ID, V, column("n", "integer", 3))))
    with pytest.raises(Fenced):
        fed.send(*before, Truncate((one,), False, False))
    assert _columns(fed) == ["id", "v"]
    assert found(fed) == [(1, "a")]


@CRASHES
def test_two_changes_and_a_truncate_in_one_batch(fed: Fed, monkeypatch: pytest.MonkeyPatch, crash: bool) -> None:
    monkeypatch.setattr(barriers, "_DELETED_ROWS", -1)  # every table is too large to be emptied by DELETE
    one = fed.made()
    two = after(fed, one, ID, V, column("n", "integer", 3))
    three = after(fed, one, ID, V, column("n", "bigint", 3))
    _send(
        fed, monkeypatch, crash,
        fed.rows(one, [("I", None, [b"1", b"a"])]),
        SchemaChange(one, two),
        fed.rows(two, [("I", None, [b"2", b"b", b"2"])]),
        Truncate((two,), False, False),
        fed.rows(two, [("I", None, [b"1", b"c", b"3"]), ("I", None, [b"4", b"d", b"4"])]),
        SchemaChange(two, three),
        fed.rows(three, [("U", None, [b"1", UNCHANGED, b"9000000000"]), ("D", [b"4", UNCHANGED, UNCHANGED], None)]),
    )  # fmt: skip
    assert found(fed, "SELECT * FROM t") == [(1, "c", 9000000000)]


@pytest.mark.parametrize("at", [1, 2])
def test_a_crash_between_the_alter_and_the_rows_behind_it(fed: Fed, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The part before the ALTER is committed, so when the batch comes again, in smaller ones, it is left out."""
    one = fed.made()
    other = fed.made(name="o")
    two = after(fed, one, ID, V, column("n", "integer", 3))
    first = fed.rows(one, [("I", None, [b"1", b"a"]), ("U", None, [b"1", b"b"])])
    second = fed.rows(other, [("I", None, [b"1", b"o"])])
    change = SchemaChange(one, two)
    third = fed.rows(two, [("I", None, [b"2", b"c", b"2"])])
    batch = fed.batch(first, second, change, third, large=True)
    calls = 0
    pass_one = barriers.pass_one

    def die(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if at == 2:
            pass_one(*arguments)
        raise _Killed

    with monkeypatch.context() as patched:
        patched.setattr(barriers, "pass_one", die)
        with pytest.raises(_Killed):
            fed.target.apply(batch)
    assert calls == 1
    assert found(fed, "SELECT id, v FROM t") == [(1, "b")]
    assert fed.position() == ""
    fed.again()
    fed.target.heartbeat(fed.batch().end)
    fed.send(first)
    fed.again()
    fed.send(second, change, third)
    assert found(fed, "SELECT * FROM t ORDER BY 1") == [(1, "b", None), (2, "c", 2)]
    assert found(fed, "SELECT * FROM o") == [(1, "o")]
    fed.send(fed.rows(two, [("I", None, [b"3", b"d", b"3"])]))
    assert found(fed, "SELECT count(*) FROM t") == [(3,)]


def _killed_at_a_change(fed: Fed, monkeypatch: pytest.MonkeyPatch, *steps: Step) -> None:
    """Apply a batch and die where what stands before its DDL is committed; another process goes on."""
    with monkeypatch.context() as patched:

        def die(*_: Any) -> None:
            raise _Killed

        patched.setattr(barriers, "pass_one", die)
        with pytest.raises(_Killed):
            fed.send(*steps, large=True)
    fed.again()
    fed.target.heartbeat(fed.batch().end)


@pytest.mark.parametrize("cleared", [True, False], ids=["copied again", "excluded, and taken in again"])
@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_what_a_cut_batch_wrote_of_a_table_is_forgotten_when_its_copy_begins(
    fed: Fed, monkeypatch: pytest.MonkeyPatch, cleared: bool, restarts: int
) -> None:
    one, other = fed.made(), fed.made(name="o")
    changed = SchemaChange(other, after(fed, other, ID, V, column("n", "integer", 3)))
    five = fed.rows(one, [("I", None, [b"%d" % n, b"old"]) for n in range(5)])
    _killed_at_a_change(fed, monkeypatch, five, changed)
    if cleared:
        fed.target.clear(one, one)
    else:
        fed.database.execute("TRUNCATE TABLE t")
    fed.target.create(one)
    for n in range(restarts):
        _killed_at_a_change(fed, monkeypatch, fed.rows(other, [("I", None, [b"%d" % n, b"o"])]), changed)
    fed.apply(one, [("I", None, [b"%d" % n, b"new"]) for n in range(6)], large=True)
    assert found(fed, "SELECT count(*) FROM t WHERE v = 'new'") == [(6,)]


def test_a_change_in_the_middle_of_a_large_transaction(fed: Fed) -> None:
    one = fed.made()
    two = after(fed, one, ID, V, column("n", "integer", 3))
    fed.send(fed.rows(one, [("I", None, [b"1", b"a"])]), large=True, complete=False)
    fed.send(SchemaChange(one, two), fed.rows(two, [("I", None, [b"2", b"b", b"2"])]), large=True, complete=False)
    assert found(fed, "SELECT id FROM t") == [(1,)]
    fed.send(fed.rows(two, [("I", None, [b"3", b"c", b"3"])]), large=True)
    assert found(fed, "SELECT id, n FROM t ORDER BY 1") == [(1, None), (2, 2), (3, 3)]


def test_a_type_changes(fed: Fed) -> None:
    one = fed.made(ID, column("n", "integer", 2))
    two = after(fed, one, ID, column("n", "character varying(20)", 2))
    fed.send(
        fed.rows(one, [("I", None, [b"1", b"5"])]), SchemaChange(one, two), fed.rows(two, [("I", None, [b"2", b"x"])])
    )
    assert found(fed, "SELECT * FROM t ORDER BY 1") == [(1, "5"), (2, "x")]


def test_the_rules_may_stop_or_ignore_a_change(fed: Fed) -> None:
    one = fed.made()
    stop = after(fed, one, ID, V, column("n", "integer", 3), schema_changes=SchemaChanges.STOP)
    with pytest.raises(SchemaStop) as caught:
        fed.send(SchemaChange(one, stop))
    assert "ADD COLUMN `n` int NULL" in caught.value.do
    ignore = after(fed, one, ID, V, column("n", "integer", 3), schema_changes=SchemaChanges.IGNORE)
    fed.send(SchemaChange(one, ignore), fed.rows(ignore, [("I", None, [b"1", b"a", b"5"])]))
    assert found(fed, "SELECT * FROM t") == [(1, "a")]


def test_clear_empties_and_reshapes(fed: Fed) -> None:
    one = fed.made(ID, V, column("gone", "integer", 3, nullable=False))
    fed.apply(one, [("I", None, [b"1", b"a", b"1"])])
    two = after(fed, one, ID, replace(V, name="u"), column("n", "date", 4, nullable=False))
    fed.target.clear(two, one)
    assert not fed.target.holds(two)
    fed.target.create(two)
    fed.apply(two, [("I", None, [b"1", b"b", b"2024-01-31"])])
    assert found(fed, "SELECT u, CAST(n AS CHAR) FROM t") == [("b", "2024-01-31")]
    assert _columns(fed) == ["id", "u", "n"]


def test_long_rows_and_keys_are_made_to_fit(fed: Fed) -> None:
    wide = [column(f"c{n}", "character varying(1000)") for n in range(30)]
    route = fed.made(column("id", "text", nullable=False), column("k", "text", nullable=False), *wide, key=("id", "k"))
    fed.apply(route, [("I", None, [b"a" * 300, b"b", *[b"x" * 1000] * 30])], large=True)
    assert found(fed, "SELECT length(id), length(c29) FROM t") == [(300, 1000)]


def test_a_table_of_mysql_keeps_its_types_indexes_and_keys(fed: Fed) -> None:
    engine = fed.target.identity()["engine"]
    name = fed.database.name
    parent = fed.made(column("id", "int unsigned", nullable=False, identity="by default"), name="parent", engine=engine)
    source = table(
        column("id", "int unsigned", nullable=False, identity="by default"),
        column("code", "varchar(20)", charset="latin1", collation="latin1_swedish_ci", nullable=False, default="'n/a'"),
        column("name", "varchar(50)", charset="utf8mb4", collation="utf8mb4_0900_ai_ci"),
        column("kind", "enum('a','b''c')", charset="utf8mb4", collation="utf8mb4_unicode_ci", labels=("a", "b'c")),
        column("parent", "int unsigned"),
        column("twice", "int", generated="virtual", default="`parent` * 2"),
        name="child", engine=engine,
        indexes=(
            Index("code", ("code",), True, "CREATE UNIQUE INDEX `code` ON `d`.`child` (`code`)"),
            Index("name", ("name", "id"), False, "CREATE INDEX `name` ON `d`.`child` (`name`(10), `id` DESC)"),
            Index("PRIMARY", ("id",), True, "CREATE UNIQUE INDEX `PRIMARY` ON `d`.`child` (`id`)"),
        ),
        foreign_keys=(
            ForeignKey(
                "child_parent", ("parent",), TableName("d", "parent"), ("id",),
                "FOREIGN KEY (`parent`) REFERENCES `d`.`parent` (`id`) ON DELETE CASCADE ON UPDATE RESTRICT",
            ),
        ),
    )  # fmt: skip
    child = fed.route(source, {"name": "title"})
    fed.target.create(child)
    fed.apply(child, [("I", None, [b"1", "é".encode(), "ä".encode(), b"b'c", b"7"])], large=True)
    fed.target.finish([parent, child])
    fed.target.finish([parent, child])
    made = fed.database.query(f"SHOW CREATE TABLE {name}.child")[0][1]
    size = "(10)" if engine == "mariadb" else ""
    for words in (
        f"`id` int{size} unsigned NOT NULL AUTO_INCREMENT", "latin1", "DEFAULT 'n/a'", "enum('a','b''c')",
        "UNIQUE KEY `code` (`code`)", "KEY `name` (`title`(10),`id`", "GENERATED ALWAYS AS (`parent` * 2)",
        "CONSTRAINT `child_parent` FOREIGN KEY (`parent`) REFERENCES", "ON DELETE CASCADE",
    ):  # fmt: skip
        assert words in str(made).replace("((`parent` * 2))", "(`parent` * 2)"), words
    assert found(fed, "SELECT id, code, title, kind, twice FROM child") == [(1, "é", "ä", "b'c", 14)]
    # The parent's cascade, which the source would have logged, does not fire in the apply session.
    fed.apply(parent, [("I", None, [b"7"]), ("D", [b"7"], None)])
    assert found(fed, "SELECT count(*) FROM child") == [(1,)]


def test_soft_deletes_can_be_asked_for_later(fed: Fed) -> None:
    one = fed.made()
    soft = replace(one, on_delete=OnDelete.SOFT)
    fed.apply(one, [("I", None, [b"1", b"a"])])
    fed.target.create(soft)
    fed.apply(soft, [("D", [b"1", None], None)])
    assert found(fed, "SELECT id, cdcflow_deleted_at IS NULL FROM t") == [(1, 0)]


def test_the_documented_privileges_are_enough(fed: Fed) -> None:
    name, table_rights = fed.database.name, "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES"
    grants = [f"{table_rights} ON {name}.*", f"{table_rights}, CREATE TEMPORARY TABLES ON cdcflow.*"]
    url = fed.database.server.create_user(f"u{name}"[:32], "pw", grants)  # type: ignore[attr-defined]
    fed.target.close()
    fed.target = type(fed.target)(url.rstrip("/") + "/" + name, fed.name)
    fed.target.begin(fed.name, fed.epoch)
    one = fed.made()
    assert not [each for each in fed.target.check([one]) if each.level.value == "blocker"]
    fed.apply(one, [("I", None, [b"%d" % n, b"a"]) for n in range(10)], large=True)
    fed.apply(one, [("U", None, [b"1", UNCHANGED]), ("U", None, [b"2", b"x"]), ("D", [b"3", None], None)], large=True)
    two = after(fed, one, ID, V, column("w", "text", 3))
    fed.send(SchemaChange(one, two), fed.rows(two, [("U", None, [b"1", UNCHANGED, b"w"])]), large=True)
    fed.send(Truncate((two,), False, False))
    fed.target.finish([two])
    fed.target.clear(two, two)
    assert str(fed.target.flush(force=True)) == fed.position()
