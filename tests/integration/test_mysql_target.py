"""Batches into MySQL and MariaDB: every operation, in each of the ways that a batch may take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdcflow.errors import Fenced, RowRejected
from cdcflow.model.change import Truncate
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.route import Mode, OnDelete
from tests.conftest import MakeMysqlDatabase
from tests.integration.mysql_feed import ID, Fed, V, column, found
from tests.servers.fleet import Fleet


@pytest.fixture(params=["mysql", "mysql without local_infile", "mariadb"])
def fed(request: pytest.FixtureRequest, fleet: Fleet, new_mysql_database: MakeMysqlDatabase) -> Iterator[Fed]:
    engine, _, without = request.param.partition(" ")
    server = fleet.mysql(role="target") if engine == "mysql" else fleet.mariadb("target")
    database = new_mysql_database(server, "fed")
    made = Fed(database, infile=not without)
    yield made
    made.close()


LARGE = pytest.mark.parametrize("large", [False, True], ids=["small", "large"])


@LARGE
def test_inserts_updates_and_deletes_arrive(fed: Fed, large: bool) -> None:
    route = fed.made()
    fed.apply(route, [("I", None, [str(n).encode(), b"old"]) for n in range(1, 7)], large=large)
    fed.apply(
        route,
        [
            ("U", None, [b"1", b"it's \\ \n\t\0"]),
            ("U", [b"2", b"old"], [b"20", b"moved"]),
            ("D", [b"3", UNCHANGED], None),
            ("U", [b"4", b"old"], [b"4", None]),
            ("I", None, [b"7", "ä 🐘".encode()]),
            ("D", [b"7", UNCHANGED], None),
            ("I", None, [b"8", "ä 🐘".encode()]),
        ],
        large=large,
    )
    assert found(fed) == [
        (1, "it's \\ \n\t\0"), (4, None), (5, "old"), (6, "old"), (8, "ä 🐘"), (20, "moved"),
    ]  # fmt: skip
    assert fed.position() == "0/C8"


@LARGE
def test_unchanged_cells_keep_what_is_there(fed: Fed, large: bool) -> None:
    route = fed.made(ID, V, column("w"))
    fed.apply(route, [("I", None, [b"1", b"a", b"x"]), ("I", None, [b"2", b"b", b"y"])], large=large)
    fed.apply(
        route,
        [
            ("U", None, [b"1", UNCHANGED, b"z"]),
            ("U", None, [b"2", b"c", UNCHANGED]),
            ("U", None, [b"1", b"d", UNCHANGED]),
        ],
        large=large,
    )
    assert found(fed, "SELECT * FROM t ORDER BY id") == [(1, "d", "z"), (2, "c", "y")]


@LARGE
def test_a_column_that_the_server_would_renew_stays_what_it_is_at_the_source(fed: Fed, large: bool) -> None:
    route = fed.made(ID, V, column("at", "timestamp without time zone"))
    fed.database.execute("ALTER TABLE t MODIFY at datetime(6) ON UPDATE CURRENT_TIMESTAMP(6), ADD UNIQUE KEY (at)")
    fed.apply(
        route,
        [("I", None, [b"1", b"a", b"2001-01-01 00:00:00"]), ("I", None, [b"2", b"b", b"2002-01-01 00:00:00"])],
        large=large,
    )
    fed.apply(route, [("U", None, [b"1", b"c", UNCHANGED]), ("U", None, [b"2", b"d", UNCHANGED])], large=large)
    assert found(fed, "SELECT v, year(at) FROM t ORDER BY id") == [("c", 2001), ("d", 2002)]


@LARGE
def test_a_unique_value_that_moves_from_row_to_row_arrives(fed: Fed, large: bool) -> None:
    route = fed.made()
    fed.database.execute("ALTER TABLE t MODIFY v VARCHAR(20), ADD UNIQUE KEY (v)")
    fed.apply(route, [("I", None, [b"1", b"a"]), ("I", None, [b"2", b"b"])], large=large)
    fed.apply(
        route,
        [("U", None, [b"1", b"tmp"]), ("U", None, [b"2", b"a"]), ("U", None, [b"1", b"b"])],
        large=large,
    )
    assert found(fed) == [(1, "b"), (2, "a")]
    fed.apply(
        route, [("D", [b"1", UNCHANGED], None), ("U", None, [b"2", b"b"]), ("I", None, [b"3", b"a"])], large=large
    )
    assert found(fed) == [(2, "b"), (3, "a")]


@LARGE
def test_an_upsert_never_hits_the_row_that_holds_another_unique_value(fed: Fed, large: bool) -> None:
    route = fed.made()
    fed.database.execute("ALTER TABLE t MODIFY v VARCHAR(20), ADD UNIQUE KEY (v)")
    fed.apply(route, [("I", None, [b"1", b"a"]), ("I", None, [b"2", b"b"])], large=large)
    with pytest.raises(RowRejected) as caught:
        fed.apply(route, [("I", None, [b"3", b"a"]), ("I", None, [b"4", b"d"])], large=large)
    assert "id=3" in caught.value.at
    assert found(fed) == [(1, "a"), (2, "b")]


@LARGE
@pytest.mark.parametrize("replayed", [False, True], ids=["an update", "an upsert"])
def test_a_unique_index_that_a_table_gets_while_it_is_followed_counts_from_the_next_batch_on(
    fed: Fed, large: bool, replayed: bool
) -> None:
    route = fed.made(ID, column("v", "character varying(20)", 2))
    op = "I" if replayed else "U"
    fed.apply(route, [("I", None, [b"%d" % n, b"%d" % n]) for n in range(3)], large=large)
    fed.apply(route, [(op, None, [b"0", b"a"])], replayed=replayed, large=large)
    fed.database.execute("ALTER TABLE t ADD UNIQUE KEY (v)")
    with pytest.raises(RowRejected):
        fed.apply(route, [(op, None, [b"2", b"a"])], replayed=replayed, large=large)
    assert found(fed) == [(0, "a"), (1, "1"), (2, "2")]


@LARGE
@pytest.mark.parametrize("replayed", [False, True], ids=["an update", "an upsert"])
def test_a_column_that_a_person_adds_while_the_table_is_followed_keeps_its_values(
    fed: Fed, large: bool, replayed: bool
) -> None:
    route = fed.made()
    op = "I" if replayed else "U"
    fed.apply(route, [("I", None, [b"1", b"a"])], large=large)
    fed.apply(route, [(op, None, [b"1", b"b"])], replayed=replayed, large=large)
    fed.database.execute("ALTER TABLE t ADD COLUMN own INT; UPDATE t SET own = 9")
    fed.apply(route, [(op, None, [b"1", b"c"])], replayed=replayed, large=large)
    assert found(fed, "SELECT * FROM t") == [(1, "c", 9)]


@LARGE
def test_a_batch_that_comes_twice_with_replayed_rows_has_one_effect(fed: Fed, large: bool) -> None:
    route = fed.made()
    changes = [
        ("I", None, [b"1", b"a"]), ("I", None, [b"2", b"b"]), ("U", None, [b"1", b"c"]),
        ("U", [b"2", b"b"], [b"5", b"e"]), ("I", None, [b"6", b"f"]), ("D", [b"6", UNCHANGED], None),
    ]  # fmt: skip
    for _ in range(2):
        fed.apply(route, changes, replayed=True, large=large)
        assert found(fed) == [(1, "c"), (5, "e")]
    fed.apply(route, [("I", None, [b"1", b"c"]), ("I", None, [b"9", b"i"])], replayed=True, large=large)
    assert found(fed) == [(1, "c"), (5, "e"), (9, "i")]


@LARGE
def test_a_missing_row_is_made_again(fed: Fed, large: bool) -> None:
    route = fed.made()
    fed.apply(route, [("I", None, [b"1", b"a"])], large=large)
    fed.database.execute("DELETE FROM t")
    fed.apply(route, [("U", None, [b"1", b"b"])], large=large)
    assert found(fed) == [(1, "b")]


@LARGE
def test_rows_without_a_key_are_found_by_all_their_cells(fed: Fed, large: bool) -> None:
    route = fed.made(
        column("a", "integer"), column("b"), column("f", "real"), column("g", "double precision"),
        column("n", "numeric(6,2)"), column("c", "bytea"), column("d", "timestamp with time zone"),
        key=(),
    )  # fmt: skip
    one = [b"1", b"x", b"0.1", b"0.1", b"1.50", b"\\x00ff", b"2024-01-01 10:00:00.5+00"]
    two = [None, b"X", None, b"1e+20", None, None, None]
    fed.apply(
        route, [("I", None, one), ("I", None, one), ("I", None, two), ("I", None, [b"1", b"X", *one[2:]])], large=large
    )
    fed.apply(route, [("D", one, None), ("U", two, [b"7", b"x ", *two[2:]])], large=large)
    assert found(fed, "SELECT a, b FROM t ORDER BY a, b") == [(1, "X"), (1, "x"), (7, "x ")]
    fed.apply(route, [("D", [b"7", b"x ", *two[2:]], None), ("D", [b"7", b"x", *two[2:]], None)], large=large)
    assert found(fed, "SELECT a, b FROM t ORDER BY a, b") == [(1, "X"), (1, "x")]


@LARGE
def test_deleted_rows_stay_marked_where_the_rules_say_so(fed: Fed, large: bool) -> None:
    route = fed.made(on_delete=OnDelete.SOFT)
    fed.apply(route, [("I", None, [b"1", b"a"]), ("I", None, [b"2", b"b"]), ("I", None, [b"3", b"c"])], large=large)
    fed.apply(route, [("D", [b"1", UNCHANGED], None), ("D", [b"2", UNCHANGED], None)], large=large)
    query = "SELECT id, v, cdcflow_deleted_at IS NULL FROM t ORDER BY 1"
    assert found(fed, query) == [(1, "a", 0), (2, "b", 0), (3, "c", 1)]
    fed.apply(route, [("I", None, [b"1", b"new"]), ("U", [b"3", b"c"], [b"2", b"moved"])], large=large)
    assert found(fed, query) == [(1, "new", 1), (2, "moved", 1)]


@LARGE
def test_deletes_are_left_out_where_the_rules_say_so(fed: Fed, large: bool) -> None:
    route = fed.made(on_delete=OnDelete.IGNORE)
    fed.apply(route, [("I", None, [b"1", b"a"]), ("I", None, [b"2", b"b"])], large=large)
    fed.apply(route, [("D", [b"1", UNCHANGED], None), ("I", None, [b"2", b"again"])], large=large)
    assert found(fed) == [(1, "a"), (2, "again")]


@LARGE
def test_append_writes_inserts_only(fed: Fed, large: bool) -> None:
    route = fed.made(mode=Mode.APPEND)
    fed.apply(
        route, [("I", None, [b"1", b"a"]), ("U", None, [b"1", b"b"]), ("D", [b"1", UNCHANGED], None)], large=large
    )
    assert found(fed) == [(1, "a")]


@LARGE
def test_truncate_stands_between_the_rows_before_and_after_it(fed: Fed, large: bool) -> None:
    route = fed.made()
    fed.send(
        fed.rows(route, [("I", None, [b"1", b"a"])]), Truncate((route,), False, False),
        fed.rows(route, [("I", None, [b"1", b"b"])]), large=large,
    )  # fmt: skip
    assert found(fed) == [(1, "b")]


@LARGE
def test_keys_that_differ_in_case_accents_and_trailing_spaces_are_rows_of_their_own(fed: Fed, large: bool) -> None:
    route = fed.made(column("id", "text", nullable=False), V)
    keys = ["a", "A", "a ", "ä", "a\n"]
    fed.apply(route, [("I", None, [key.encode(), key.encode()]) for key in keys], large=large)
    fed.apply(route, [("U", None, [b"A", b"changed"]), ("D", [b"a ", UNCHANGED], None)], large=large)
    assert sorted(found(fed)) == sorted([("a", "a"), ("A", "changed"), ("ä", "ä"), ("a\n", "a\n")])


@LARGE
def test_keys_of_several_columns_and_types(fed: Fed, large: bool) -> None:
    route = fed.made(
        column("a", "uuid", nullable=False), column("b", "bytea", nullable=False),
        column("c", "timestamp with time zone", nullable=False), V, key=("a", "b", "c"),
    )  # fmt: skip
    uuid = b"6b1de5a0-1b2c-4c3d-9e4f-001122334455"
    keys = [[uuid, b"\\x0%d0a" % n, b"2024-01-01 00:00:0%d.25+00" % n] for n in range(5)]
    fed.apply(route, [("I", None, [*key, b"old"]) for key in keys], large=large)
    fed.apply(route, [("U", None, [*keys[0], b"new"]), ("D", [*keys[1], UNCHANGED], None)], large=large)
    assert found(fed, "SELECT hex(b), v FROM t ORDER BY c") == [
        ("000A", "new"), ("020A", "old"), ("030A", "old"), ("040A", "old"),
    ]  # fmt: skip


def test_odd_names_are_names(fed: Fed) -> None:
    route = fed.made(
        column("i`d", "integer", nullable=False), column("select"), column("grün %s"), key=("i`d",), name="t'x`%d"
    )
    fed.apply(route, [("I", None, [b"1", b"a", b"b"]), ("I", None, [b"2", b"a", b"b"])], large=True)
    fed.apply(route, [("U", None, [b"1", b"c", UNCHANGED]), ("D", [b"2", None, None], None)], large=True)
    assert found(fed, "SELECT * FROM `t'x``%d`") == [(1, "c", "b")]


@LARGE
def test_a_row_that_does_not_fit_is_named_and_nothing_of_its_batch_stays(fed: Fed, large: bool) -> None:
    route = fed.made()
    fed.database.execute("ALTER TABLE t MODIFY v VARCHAR(3)")
    with pytest.raises(RowRejected) as caught:
        fed.apply(route, [("I", None, [b"1", b"abc"]), ("I", None, [b"2", b"secret"])], large=large)
    assert "id=2" in caught.value.at
    assert "column v" in caught.value.at
    assert "secret" not in caught.value.report()
    assert found(fed) == []
    assert fed.position() == ""


@LARGE
def test_a_fenced_writer_writes_nothing(fed: Fed, large: bool) -> None:
    route = fed.made()
    fed.apply(route, [("I", None, [b"1", b"a"])], large=large)
    fed.store.acquire(fed.name, {"host": "here", "process": "2"})
    with pytest.raises(Fenced):
        fed.apply(route, [("I", None, [b"2", b"b"])], large=large)
    with pytest.raises(Fenced):
        fed.target.heartbeat(fed.batch().end)
    assert found(fed) == [(1, "a")]


def test_pieces_of_one_transaction_are_seen_together(fed: Fed) -> None:
    route = fed.made()
    fed.send(fed.rows(route, [("I", None, [b"1", b"a"])]), large=True, complete=False)
    fed.send(fed.rows(route, [("U", None, [b"1", b"b"]), ("I", None, [b"2", b"c"])]), large=True, complete=False)
    assert found(fed) == []
    fed.send(fed.rows(route, [("D", [b"2", UNCHANGED], None), ("I", None, [b"3", b"d"])]), large=True)
    assert found(fed) == [(1, "b"), (3, "d")]


def test_a_heartbeat_moves_the_position(fed: Fed) -> None:
    fed.target.heartbeat(fed.batch().end)
    assert fed.position() == "0/64"
    assert str(fed.target.flush(force=True)) == "0/64"
