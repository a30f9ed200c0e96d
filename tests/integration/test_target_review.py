"""Batches fed to the target by hand: replayed rows, rows that the target keeps, tables with relatives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cdcflow.errors import ConfigError, RowRejected, TargetUnavailable
from cdcflow.model.change import SchemaChange, Truncate
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.route import Mode, OnDelete, OnTruncate, SchemaChanges
from cdcflow.model.schema import TableName, UserType
from cdcflow.targets.postgres import PostgresTarget, catalog
from cdcflow.targets.postgres import session as session_module
from cdcflow.targets.postgres import target as target_module
from cdcflow.targets.postgres.equality import equalities
from cdcflow.targets.postgres.plan import plan
from tests.integration.semantics import Pair, pair
from tests.integration.target_feed import ID, Changes, Fed, V, found, keyed, keyless
from tests.integration.target_shapes import column, index, route, table
from tests.servers.database import Database
from tests.servers.fleet import PostgresServer

SMALL_AND_LARGE = pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])


@pytest.fixture
def fed(target_db: Database) -> Iterator[Fed]:
    fed = Fed(target_db)
    yield fed
    fed.close()


# -- rows that a copy may hold already


@SMALL_AND_LARGE
@pytest.mark.parametrize(
    ("copied", "changes", "ends"),
    [
        ("(3, 'x')", [("I", None, [b"3", b"x"]), ("D", [b"3", UNCHANGED], None)], []),
        ("", [("D", [b"3", UNCHANGED], None), ("I", None, [b"3", b"y"])], [(3, "y")]),
        ("(4, 'x')", [("U", [b"3", UNCHANGED], [b"4", b"x"]), ("D", [b"4", UNCHANGED], None)], []),
        ("(4, 'x')", [("U", [b"3", UNCHANGED], [b"4", b"x"]), ("I", None, [b"3", b"n"])], [(3, "n"), (4, "x")]),
        ("(3, 'x')", [("I", None, [b"3", b"old"]), ("I", None, [b"5", b"n"])], [(3, "old"), (5, "n")]),
    ],
    ids=["inserted and deleted", "deleted and inserted", "moved and deleted", "moved and inserted", "inserted only"],
)
def test_rows_that_are_replayed_end_as_the_log_says_whatever_the_copy_held(
    fed: Fed, copied: str, changes: Changes, ends: list[tuple[object, ...]], large: bool
) -> None:
    wanted = keyed()
    fed.target.create(wanted)
    if copied:
        fed.database.execute(f"INSERT INTO t VALUES {copied}")
    fed.apply(wanted, changes, replayed=True, large=large)
    assert found(fed) == ends


@pytest.fixture
def made(tmp_path: Path, pg_source: PostgresServer, pg_target: PostgresServer) -> Iterator[Pair]:
    with pair(tmp_path, pg_source, pg_target) as made:
        yield made


@pytest.mark.parametrize("gone", ["inserted", "deleted"])
def test_a_copy_that_was_resumed_loses_and_keeps_no_row_that_went_to_and_fro_meanwhile(made: Pair, gone: str) -> None:
    made.folder.write_config(source={"url": made.folder.source_url, "snapshot": {"workers": 1, "chunk": "1MB"}})
    made.source.execute(
        "CREATE TABLE jobs (id int PRIMARY KEY, v text); ANALYZE jobs;"
        " INSERT INTO jobs SELECT n, repeat('x', 1000) FROM generate_series(1, 3000) n"
    )
    made.commands.call("snapshot", env={"CDCFLOW_KILL_AT": "chunk committed:1"}, exit_code=-9)
    some = "SELECT n, 'new' FROM generate_series(2801, 3000) n"
    if gone == "inserted":
        made.source.execute("INSERT INTO jobs SELECT n, 'new' FROM generate_series(3001, 4000) n")
    else:
        made.source.execute("DELETE FROM jobs WHERE id > 2800")
    made.commands.call("snapshot", exit_code=0)
    made.source.execute("DELETE FROM jobs WHERE id > 3000" if gone == "inserted" else f"INSERT INTO jobs {some}")
    made.run()
    made.same("jobs")


# -- schema changes


def test_a_piece_that_alters_what_an_earlier_piece_altered_does_not_wait_for_itself(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "_LOCK_WAIT_SECONDS", 2)
    mood = UserType(TableName("public", "mood"), "enum", "AS ENUM ('a', 'b')")
    columns = [ID, column("v", default="'x'::text"), column("m", "public.mood")]
    shapes = [
        route(replace(table(*columns, *(column(name, "integer") for name in more), types=(mood,)), id=7))
        for more in ([], ["c1"], ["c1", "c2"])
    ]
    fed.target.create(shapes[0])
    fed.send(
        SchemaChange(shapes[0], shapes[1]), fed.rows(shapes[1], [("I", None, [b"1", b"x", b"a", b"1"])]), complete=False
    )
    fed.send(SchemaChange(shapes[1], shapes[2]), fed.rows(shapes[2], [("I", None, [b"2", b"y", b"b", b"1", b"2"])]))
    assert found(fed, "SELECT id, c1, c2 FROM t ORDER BY 1") == [(1, 1, None), (2, 1, 2)]


def test_a_lock_that_is_held_for_long_ends_the_wait_with_a_word(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "_LOCK_WAIT_SECONDS", 1)
    wanted = keyed()
    fed.target.create(wanted)
    with fed.database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE t")
        with pytest.raises(TargetUnavailable, match="lock"):
            fed.target.clear(wanted, wanted)


@pytest.mark.parametrize("partitioned", [False, True])
def test_a_default_that_was_set_after_its_column_was_added_is_not_in_older_rows(made: Pair, partitioned: bool) -> None:
    by = "PARTITION BY RANGE (id)" if partitioned else ""
    made.source.execute(f"CREATE TABLE t (id int PRIMARY KEY, v text) {by}")
    if partitioned:
        made.source.execute("CREATE TABLE t1 PARTITION OF t DEFAULT")
    made.source.execute("INSERT INTO t SELECT n, 'x' FROM generate_series(1, 3) n")
    made.source.execute("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1), (2)")
    made.run()
    made.source.execute("ALTER TABLE t ADD COLUMN with_default int DEFAULT 9")
    if not partitioned:
        made.source.execute("ALTER TABLE t ADD COLUMN c int; ALTER TABLE t ALTER c SET DEFAULT 5")
        # Of a table of its own: a volatile default rewrites it, and it is copied again.
        made.source.execute("ALTER TABLE u ADD COLUMN volatile float8 DEFAULT random()")
    made.source.execute("INSERT INTO t (id, v) VALUES (4, 'n'); INSERT INTO u (id) VALUES (3)")
    made.run()
    made.same("t", "u")


# -- tables with relatives, and tables that a person changed


@SMALL_AND_LARGE
def test_a_row_of_one_partition_is_not_taken_for_that_of_another(fed: Fed, large: bool) -> None:
    wanted = keyless(column("id", "integer"), V)
    fed.database.execute(
        "CREATE TABLE t (id int, v text) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);"
        " CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2)"
    )
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"1", b"a"]), ("I", None, [b"2", b"b"])], large=large)
    fed.apply(wanted, [("U", [b"1", b"a"], [b"1", b"c"])], large=large)
    assert found(fed) == [(1, "c"), (2, "b")]
    fed.apply(wanted, [("D", [b"1", b"c"], None)], large=large)
    assert found(fed) == [(2, "b")]


@SMALL_AND_LARGE
def test_tables_that_inherit_from_the_target_keep_their_rows(fed: Fed, large: bool) -> None:
    fed.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (t);"
        " INSERT INTO t VALUES (1, 'p'), (2, 'p'); INSERT INTO child VALUES (1, 'c'), (2, 'c')"
    )
    wanted = keyed()
    fed.target.create(wanted)
    changes = [("U", None, [b"1", b"new"]), ("D", [b"2", UNCHANGED], None)]
    fed.apply(wanted, changes, large=large)
    assert found(fed, "SELECT id, v FROM ONLY t") == [(1, "new")]
    assert found(fed, "SELECT id, v FROM child ORDER BY 1") == [(1, "c"), (2, "c")]
    fed.send(Truncate((wanted,), cascade=False, restart_identity=False))
    fed.apply(wanted, [("I", None, [b"3", b"x"])], large=large)
    fed.target.clear(wanted, wanted)
    assert found(fed, "SELECT id FROM ONLY t") == []
    assert len(found(fed, "SELECT id FROM child")) == 2


def test_rows_without_a_key_are_found_in_a_plain_table_by_their_place(fed: Fed) -> None:
    wanted = keyless(column("id", "integer"), V)
    fed.target.create(wanted)
    with fed.database.connect() as connection:
        there = catalog.table(connection, wanted.target)
        assert there is not None
        found_plan = plan(wanted, ("id", "v"), there, 1, equalities(connection, there.oid))
        text = found_plan.delete_row((False, False)).replace("$1", "'1'").replace("$2", "'x'")
        lines = connection.execute(f"EXPLAIN {text}").fetchall()
    assert any("Tid Scan" in line for (line,) in lines)


@SMALL_AND_LARGE
def test_a_column_that_was_dropped_at_the_target_stops_the_rows_that_have_it(fed: Fed, large: bool) -> None:
    wanted = keyed()
    fed.target.create(wanted)
    fed.database.execute("ALTER TABLE t DROP COLUMN v")
    with pytest.raises(ConfigError) as refused:
        fed.apply(wanted, [("I", None, [b"1", b"a"])], large=large)
    assert '"v"' in refused.value.what
    assert "cdcflow resync public.t" in refused.value.do
    ignoring = replace(wanted, schema_changes=SchemaChanges.IGNORE)
    fed.apply(ignoring, [("I", None, [b"1", b"a"])], large=large)
    assert found(fed, "SELECT id FROM t") == [(1,)]


def test_names_that_the_server_would_cut_short_are_refused(fed: Fed) -> None:
    for wanted in (
        route(table(ID, V), rename={"v": "c" * 64}),
        route(table(ID, V), to="public." + "t" * 64),
        route(table(ID, V), to="ä" * 32 + ".t"),
    ):
        with pytest.raises(ConfigError, match="too long"):
            fed.target.create(wanted)
        assert [each.name for each in fed.target.check([wanted]) if each.level == "blocker"] == ["target.name"]


def test_a_table_that_has_no_key_of_the_routes_is_refused_and_takes_one_when_it_is_emptied(fed: Fed) -> None:
    fed.target.create(keyless(column("id", "integer"), V))
    fed.database.execute("INSERT INTO t VALUES (1, 'old'), (1, 'older')")
    wanted = keyed()
    with pytest.raises(ConfigError, match="no unique index on its key"):
        fed.target.create(wanted)
    fed.target.clear(wanted, wanted)
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"1", b"x"])])
    assert found(fed) == [(1, "x")]


# -- a role that may do little


@pytest.fixture
def role(fed: Fed) -> Iterator[str]:
    name = f"little_{fed.database.name}"
    fed.database.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'secret'; GRANT CREATE ON DATABASE {fed.database.name} TO {name};"
        f" GRANT ALL ON SCHEMA public, cdcflow TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA cdcflow TO {name}"
    )
    yield name
    fed.database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_deferred_check_that_fails_the_commit_of_a_transaction_in_pieces_is_told(fed: Fed, role: str) -> None:
    fed.database.execute(
        "CREATE TABLE other (id int PRIMARY KEY);"
        " CREATE TABLE t (id int PRIMARY KEY, v int REFERENCES other DEFERRABLE INITIALLY DEFERRED);"
        f" GRANT ALL ON t, other TO {role}"
    )
    wanted = keyed(ID, column("v", "integer"))
    mine = PostgresTarget(fed.database.server.url(fed.database.name, user=role, password="secret"), "p")
    mine.begin("p", fed.epoch)
    fed.target, owner = mine, fed.target
    try:
        for _ in range(2):
            fed.send(fed.rows(wanted, [("I", None, [b"1", b"5"])]), complete=False)
            with pytest.raises(RowRejected, match="foreign key"):
                fed.send(fed.rows(wanted, [("I", None, [b"2", b"6"])]))
        fed.apply(wanted, [("I", None, [b"3", None])])
        assert found(fed, "SELECT id FROM t") == [(3,)]
    finally:
        mine.close()
        fed.target = owner


def test_a_role_that_may_not_make_temporary_tables_is_told_by_the_check(fed: Fed, role: str) -> None:
    name = fed.database.name
    fed.database.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    mine = PostgresTarget(fed.database.server.url(name, user=role, password="secret"), "p")
    (refused,) = [each for each in mine.check([keyed()]) if each.level == "blocker"]
    assert refused.do == f'GRANT TEMPORARY ON DATABASE "{name}" TO "{role}"'
    fed.database.execute(refused.do)
    assert not [each for each in mine.check([keyed()]) if each.level == "blocker"]


# -- keys that collide in the target alone, and rows that it keeps


@SMALL_AND_LARGE
def test_two_rows_whose_keys_only_the_target_holds_for_equal_do_not_become_one(fed: Fed, large: bool) -> None:
    fed.database.execute("CREATE TABLE t (id char(3) PRIMARY KEY, v text)")
    wanted = keyed(column("id", "text", nullable=False), V)
    fed.target.create(wanted)
    with pytest.raises(RowRejected) as refused:
        fed.apply(wanted, [("I", None, [b"a", b"1"]), ("I", None, [b"a ", b"2"])], large=large)
    assert '"id"=a' in refused.value.at
    assert found(fed) == []


KEEPING = {
    "soft": {"on_delete": OnDelete.SOFT},
    "ignore": {"on_delete": OnDelete.IGNORE},
    "truncate ignored": {"on_truncate": OnTruncate.IGNORE},
    "soft, truncate ignored": {"on_delete": OnDelete.SOFT, "on_truncate": OnTruncate.IGNORE},
}


@SMALL_AND_LARGE
@pytest.mark.parametrize("kind", KEEPING)
def test_a_row_moves_onto_the_key_of_a_row_that_was_kept(fed: Fed, kind: str, large: bool) -> None:
    wanted = keyed(**KEEPING[kind])
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"1", b"a"]), ("I", None, [b"2", b"b"]), ("I", None, [b"3", b"c"])])
    if "truncate" in kind:
        fed.send(Truncate((wanted,), cascade=False, restart_identity=False))
        fed.apply(wanted, [("I", None, [b"1", b"a"])], large=large)
    else:
        fed.apply(wanted, [("D", [b"2", UNCHANGED], None)], large=large)
    fed.apply(wanted, [("U", [b"1", UNCHANGED], [b"2", UNCHANGED])], large=large)
    assert found(fed) == [(2, "a"), (3, "c")]
    if wanted.on_delete is OnDelete.SOFT:
        assert found(fed, "SELECT id FROM t WHERE cdcflow_deleted_at IS NOT NULL") == []


def test_a_move_that_was_copied_already_keeps_its_row(fed: Fed) -> None:
    wanted = keyed(on_delete=OnDelete.IGNORE)
    fed.target.create(wanted)
    fed.database.execute("INSERT INTO t VALUES (2, 'a')")
    fed.apply(wanted, [("U", [b"1", UNCHANGED], [b"2", b"a"])], replayed=True)
    assert found(fed) == [(2, "a")]


@pytest.mark.parametrize("more", [{"on_delete": OnDelete.SOFT}, {"on_delete": OnDelete.IGNORE}, {"mode": Mode.APPEND}])
def test_unique_indexes_of_a_table_that_keeps_rows_from_now_on_are_no_longer_unique(
    fed: Fed, more: dict[str, object]
) -> None:
    indexes = (
        index("t_v_key", "btree (v)", unique=True, constraint="UNIQUE (v)"),
        index("t_lower", "btree (lower(v))", unique=True),
        index("t_some", "btree (v) WHERE (id > 0)", unique=True),
    )
    before = route(table(ID, V, indexes=indexes))
    fed.target.create(before)
    fed.target.finish([before])
    unique = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass AND indisunique ORDER BY 1"
    assert len(found(fed, unique)) == 4
    now = replace(before, **more)
    fed.target.clear(now, before)
    fed.target.create(now)
    fed.target.finish([now])
    assert found(fed, unique) == [("t_pkey",)]
    assert fed.database.value("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass") == 4
    fed.apply(now, [("I", None, [b"1", b"a"])])
    fed.apply(now, [("D", [b"1", UNCHANGED], None)])
    fed.apply(now, [("I", None, [b"2", b"a"])])
    fed.target.clear(before, now)
    fed.target.create(before)
    fed.target.finish([before])
    assert len(found(fed, unique)) == 4


@pytest.mark.parametrize("more", [{"on_delete": OnDelete.SOFT}, {"on_truncate": OnTruncate.IGNORE}])
def test_a_table_that_keeps_rows_is_unique_by_the_rules_key_alone(fed: Fed, more: dict[str, object]) -> None:
    wanted = keyed(ID, column("v", nullable=False), key=("v",), **more)
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"1", b"a"])])
    fed.send(Truncate((wanted,), cascade=False, restart_identity=False))
    fed.apply(wanted, [("I", None, [b"1", b"b"])])
    assert found(fed) == [(1, "a"), (1, "b")]


# -- many kinds of statements


def test_statements_are_kept_within_bounds(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PREPARED_STATEMENTS", 300)
    wanted = keyless(*(column(f"c{number}", "integer") for number in range(10)))
    fed.target.create(wanted)
    rows = [[b"1" if number >> bit & 1 else None for bit in range(10)] for number in range(700)]
    for start in range(0, 700, 50):
        fed.apply(wanted, [("I", None, row) for row in rows[start : start + 50]])
    for start in (*range(0, 700, 50), 0):
        fed.apply(wanted, [("D", row, None) for row in rows[start : start + 50]])
    assert found(fed, "SELECT * FROM t") == []
    session = fed.target._session()._session
    assert session is not None
    assert int(session.run("SELECT count(*) FROM pg_prepared_statements").get_value(0, 0) or b"0") <= 300
