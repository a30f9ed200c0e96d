"""After the copy: indexes, foreign keys, sequences; and emptying a table before a copy that starts over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from cdcflow.errors import Fenced
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.route import OnDelete, Route
from cdcflow.model.schema import ForeignKey, TableName, UserType
from cdcflow.state import SqlStore, open_store
from cdcflow.targets.postgres import PostgresTarget
from tests.integration.target_shapes import column, index, key_column, primary_key, route, table
from tests.servers.database import Database
from tests.servers.waiting import until


@pytest.fixture
def target(target_db: Database) -> PostgresTarget:
    return PostgresTarget(target_db.url, "shop")


def indexes_of(database: Database, name: str = "t") -> list[str]:
    rows = database.query("SELECT indexdef FROM pg_indexes WHERE tablename = %s ORDER BY indexname", [name])
    return [definition.partition(" USING ")[2] for (definition,) in rows]


def made(target: PostgresTarget, wanted: Route) -> None:
    target.create(wanted)
    target.finish([wanted])
    target.finish([wanted])


def test_indexes_come_over_with_their_details(target: PostgresTarget, target_db: Database) -> None:
    wanted = [
        "btree (a DESC NULLS LAST, b) INCLUDE (id) WITH (fillfactor='70')",
        "btree (lower(a), id) WHERE (id > 3)",
        "gin (to_tsvector('english'::regconfig, b))",
    ]
    indexes = (primary_key(), *(index(f"i{at}", using) for at, using in enumerate(wanted)))
    made(target, route(table(key_column(), column("a"), column("b"), indexes=indexes), to="sales.t"))
    assert sorted(indexes_of(target_db)) == sorted([*wanted, "btree (id)"])


def test_an_index_of_a_partitioned_root_becomes_a_plain_one(target: PostgresTarget, target_db: Database) -> None:
    root = index("i", "btree (a)", table="ONLY public.t")
    made(target, route(table(key_column(), column("a"), indexes=(root,), partitioned=True)))
    assert "btree (a)" in indexes_of(target_db)


def test_an_index_follows_renamed_columns_and_is_left_out_without_its_columns(
    target: PostgresTarget, target_db: Database
) -> None:
    indexes = (
        index("renamed", 'btree ("from" DESC, b text_pattern_ops) INCLUDE ("from")'),
        index("expression", 'btree (lower("from"))'),
        index("partial", "btree (b) WHERE (\"from\" = 'x'::text)"),
        index("excluded", "btree (b, secret)"),
    )
    source = table(key_column(), column("from"), column("b"), column("secret"), indexes=indexes)
    made(target, route(source, rename={"from": "To, (x"}, without=("secret",)))
    assert indexes_of(target_db) == ['btree ("To, (x" DESC, b text_pattern_ops) INCLUDE ("To, (x")', "btree (id)"]


def test_a_unique_constraint_stays_deferrable(target: PostgresTarget, target_db: Database) -> None:
    unique = index("t_a_key", "btree (a)", unique=True, constraint="UNIQUE (a) DEFERRABLE INITIALLY DEFERRED")
    made(target, route(table(key_column(), column("a"), indexes=(unique,)), rename={"a": "A"}))
    assert target_db.query(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'u'"
    ) == [("t_a_key", 'UNIQUE ("A") DEFERRABLE INITIALLY DEFERRED')]


def test_an_index_whose_name_is_taken_gets_another(target: PostgresTarget, target_db: Database) -> None:
    target_db.execute("CREATE TABLE taken (x int)")
    made(target, route(table(key_column(), column("a"), indexes=(index("taken", "btree (a)"),))))
    assert "btree (a)" in indexes_of(target_db)


def test_unique_indexes_do_not_bind_rows_that_only_the_target_keeps(
    target: PostgresTarget, target_db: Database
) -> None:
    unique = index("i", "btree (a)", unique=True)
    made(target, route(table(key_column(), column("a"), indexes=(unique,)), on_delete=OnDelete.SOFT))
    target_db.execute("INSERT INTO t VALUES (1, 'x', now()), (2, 'x', NULL)")
    assert "btree (a)" in indexes_of(target_db)


def test_what_the_rows_do_not_allow_is_left_out_and_the_rest_is_made(
    target: PostgresTarget, target_db: Database
) -> None:
    indexes = (index("doubled", "btree (a)", unique=True), index("plain", "btree (b)"))
    wanted = route(table(key_column(), column("a"), column("b"), indexes=indexes))
    target.create(wanted)
    target_db.execute("INSERT INTO t VALUES (1, 'x', 'x'), (2, 'x', 'x')")
    target.finish([wanted])
    assert indexes_of(target_db) == ["btree (b)", "btree (id)"]


MAKING = """
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND query ~ '^CREATE .*INDEX' AND wait_event_type = 'Lock'
"""


def test_indexes_are_made_beside_an_open_transaction_of_the_applier(
    target: PostgresTarget, target_db: Database
) -> None:
    """An ordinary CREATE INDEX would hold up the apply session until it is done."""
    wanted = route(table(key_column(), column("a"), indexes=(index("i", "btree (a)", unique=True),)))
    target.create(wanted)
    target._open = True
    with target_db.connect(autocommit=False) as applier:
        applier.execute("INSERT INTO t VALUES (1, 'x')")
        finishing = threading.Thread(target=target.finish, args=([wanted],))
        finishing.start()
        until(lambda: target_db.query(MAKING), what="the index waits for the open transaction")
        with target_db.connect() as other:
            other.execute("SET lock_timeout = '20s'")
            other.execute("INSERT INTO t VALUES (2, 'y')")
        applier.commit()
    finishing.join(60)
    assert indexes_of(target_db) == ["btree (a)", "btree (id)"]
    assert target_db.value("SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 't'::regclass")


def test_an_index_that_a_killed_attempt_left_invalid_is_made_anew(target: PostgresTarget, target_db: Database) -> None:
    wanted = route(table(key_column(), column("a"), indexes=(index("i", "btree (a)", unique=True),)))
    target.create(wanted)
    target_db.execute("INSERT INTO t VALUES (1, 'x'), (2, 'x')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        target_db.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)")
    target_db.execute("DELETE FROM t WHERE id = 2")
    target.finish([wanted])
    assert target_db.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass")


def family(**more: object) -> list[Route]:
    """Return a child before its parent, with a foreign key between them."""
    key = ForeignKey(
        "child_parent_fk",
        ("parent_id",),
        TableName("public", "parent"),
        ("id",),
        "FOREIGN KEY (parent_id) REFERENCES public.parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
    )
    parent = table(key_column(), name="public.parent")
    child = table(key_column(), column("parent_id", "integer"), name="public.child", foreign_keys=(key,))
    return [
        route(child, to="sales.Kinder", rename={"parent_id": "Eltern"}),
        route(parent, to="sales.Eltern", rename={"id": "ID"}, **more),
    ]


def test_foreign_keys_join_the_tables_that_the_rows_went_to(target: PostgresTarget, target_db: Database) -> None:
    routes = family()
    for each in routes:
        target.create(each)
    target_db.execute('INSERT INTO sales."Eltern" VALUES (1); INSERT INTO sales."Kinder" VALUES (1, 1)')
    target.finish(routes)
    target.finish(routes)
    assert target_db.query(
        "SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'"
    ) == [
        (
            "child_parent_fk",
            True,
            'FOREIGN KEY ("Eltern") REFERENCES sales."Eltern"("ID") ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED',
        )
    ]


def test_a_foreign_key_that_the_rows_break_is_left_out(target: PostgresTarget, target_db: Database) -> None:
    routes = family()
    for each in routes:
        target.create(each)
    target_db.execute('INSERT INTO sales."Kinder" VALUES (1, 1)')
    target.finish(routes)
    assert target_db.query("SELECT conname FROM pg_constraint WHERE contype = 'f'") == []


def test_no_foreign_key_to_a_table_that_keeps_deleted_rows(target: PostgresTarget, target_db: Database) -> None:
    routes = family(on_delete=OnDelete.IGNORE)
    for each in routes:
        target.create(each)
    target.finish(routes)
    assert target_db.query("SELECT conname FROM pg_constraint WHERE contype = 'f'") == []


@pytest.fixture
def store(target_db: Database) -> Iterator[SqlStore]:
    store = open_store(target_db.url)
    store.migrate()
    yield store
    store.close()


def with_chunk(target: PostgresTarget, store: SqlStore, wanted: Route) -> int:
    """Take the lease and record one finished chunk; return the epoch."""
    epoch = store.acquire("shop", {"host": "here", "pid": "1"})
    target._epoch = epoch
    chunk = Chunk(wanted.source.id, 0, "0", "")
    with closing(target.loader()) as loader:
        loader.load(wanted, chunk, [b"1\tx\n"], lambda r, b: DoneChunk(chunk, "0/1", "1:1:", r, b), merge=False)
    return epoch


def test_clearing_empties_the_table_and_forgets_its_chunks(
    target: PostgresTarget, target_db: Database, store: SqlStore
) -> None:
    wanted = route(table(key_column(), column("a")))
    target.create(wanted)
    with_chunk(target, store, wanted)
    assert target_db.value("SELECT count(*) FROM t") == 1
    target.clear(wanted, wanted)
    assert target_db.value("SELECT count(*) FROM t") == 0
    assert store.chunks("shop", wanted.source.id) == []


def test_an_instance_that_lost_its_lease_cannot_clear_a_table(
    target: PostgresTarget, target_db: Database, store: SqlStore
) -> None:
    wanted = route(table(key_column(), column("a")))
    target.create(wanted)
    with_chunk(target, store, wanted)
    store.release()
    store.acquire("shop", {"host": "there", "pid": "2"})
    with pytest.raises(Fenced):
        target.clear(wanted, wanted)
    assert target_db.value("SELECT count(*) FROM t") == 1


def test_a_table_that_others_refer_to_is_cleared_and_its_referrers_stay(
    target: PostgresTarget, target_db: Database, store: SqlStore
) -> None:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE r (t int REFERENCES t)")
    target_db.execute("INSERT INTO t VALUES (1); INSERT INTO r VALUES (1)")
    target._epoch = store.acquire("shop", {"host": "here", "pid": "1"})
    target.clear(route(table(key_column())), route(table(key_column())))
    assert (target_db.value("SELECT count(*) FROM t"), target_db.value("SELECT count(*) FROM r")) == (0, 1)


def test_clearing_gives_a_table_of_ours_the_sources_shape(
    target: PostgresTarget, target_db: Database, store: SqlStore
) -> None:
    before = table(key_column(), column("a"), column("b", "text", default="'q'::text"))
    target.create(route(before))
    target_db.execute("INSERT INTO t VALUES (1, 'no number', 'x')")
    target._epoch = store.acquire("shop", {"host": "here", "pid": "1"})
    now = table(key_column("a"), column("b", "boolean"), column("n", "text", nullable=False), key=("a",))
    wanted = route(now)
    target.clear(wanted, wanted)
    target_db.execute("INSERT INTO t (a, b, n) VALUES (1, true, 'n')")
    assert target_db.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 't_pkey'") == (
        "PRIMARY KEY (a)"
    )
    target.create(wanted)


def test_labels_that_the_source_added_since_are_added(target: PostgresTarget, target_db: Database) -> None:
    mood = UserType(TableName("public", "mood"), "enum", "AS ENUM ('a')")
    source = table(key_column(), column("m", "public.mood"), types=(mood,))
    target.create(route(source))
    target.finish([route(replace(source, types=(replace(mood, definition="AS ENUM ('b', 'a')"),)))])
    assert target_db.value("SELECT enum_range(NULL::mood)::text") == "{b,a}"
