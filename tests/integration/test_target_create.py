"""A target makes tables like the source's, and compares those that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cdcflow.errors import ConfigError, OperatorError
from cdcflow.model.route import OnDelete
from cdcflow.model.schema import TableName, UserType
from cdcflow.targets.postgres import PostgresTarget
from tests.integration.target_shapes import column, key_column, route, table
from tests.servers.database import Database

MOOD = UserType(TableName("shop", "mood"), "enum", "AS ENUM ('sad', 'it''s')")
HARD_NAMES = ["Mixed Case", 'a "quoted" one', "select", "50%", "a:b", "🐘", "n" * 63, "x?y", "it's", "%s %(a)s"]


@pytest.fixture
def target(target_db: Database) -> PostgresTarget:
    return PostgresTarget(target_db.url, "shop")


def columns_of(database: Database, name: str) -> dict[str, tuple[str, bool, str | None]]:
    """Return type, NOT NULL and default of each column."""
    rows = database.query(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [name],
    )
    return {name: (kind, not_null, default) for name, kind, not_null, default in rows}


def test_a_table_is_made_with_its_types_not_nulls_and_primary_key(target: PostgresTarget, target_db: Database) -> None:
    source = table(key_column(), column("price", "numeric(12,2)", nullable=False), column("tags", "text[]"))
    target.create(route(source, to="sales.items"))
    assert columns_of(target_db, "sales.items") == {
        "id": ("integer", True, None),
        "price": ("numeric(12,2)", True, None),
        "tags": ("text[]", False, None),
    }
    assert (
        target_db.value(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'sales.items'::regclass AND contype = 'p'"
        )
        == "PRIMARY KEY (id)"
    )


def test_making_a_table_twice_changes_nothing(target: PostgresTarget, target_db: Database) -> None:
    wanted = route(table(key_column(), column("m", "shop.mood"), types=(MOOD,)))
    target.create(wanted)
    target_db.execute("INSERT INTO public.t VALUES (1, 'sad')")
    target.create(wanted)
    assert target_db.query("SELECT id, m::text FROM public.t") == [(1, "sad")]


@pytest.mark.parametrize("name", HARD_NAMES)
def test_every_name_that_the_source_may_have_works(target: PostgresTarget, target_db: Database, name: str) -> None:
    source = table(key_column(name), column("c"), key=(name,))
    source = replace(source, name=TableName(name, name))
    wanted = replace(route(source), target=TableName(name, name))
    target.create(wanted)
    target.create(wanted)
    target.finish([wanted])
    found = target_db.query(
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_name = %s", [name]
    )
    assert found == [(name, name)]
    assert not [each for each in target.check([wanted]) if each.level != "ok"]


def test_user_types_are_made_in_the_order_of_their_needs(target: PostgresTarget, target_db: Database) -> None:
    positive = UserType(TableName("shop", "positive"), "domain", "AS integer CHECK (VALUE > 0)")
    pair = UserType(
        TableName("shop", "pair"), "composite", "AS (a shop.positive, m shop.mood)", (positive.name, MOOD.name)
    )
    span = UserType(TableName("shop", "span"), "range", "AS RANGE (SUBTYPE = integer)")
    source = table(key_column(), column("p", "shop.pair"), column("s", "shop.span"), types=(pair, span, positive, MOOD))
    target.create(route(source))
    target_db.execute("INSERT INTO public.t VALUES (1, '(5,sad)', '[1,4)')")


def test_labels_that_an_enum_lacks_are_added_in_the_sources_order(target: PostgresTarget, target_db: Database) -> None:
    source = table(key_column(), column("m", "shop.mood"), types=(MOOD,))
    target.create(route(source))
    longer = replace(MOOD, definition="AS ENUM ('new', 'sad', 'mid', 'it''s', 'end')")
    target.create(route(replace(source, types=(longer,))))
    assert target_db.value("SELECT enum_range(NULL::shop.mood)::text") == "{new,sad,mid,it's,end}"


def test_an_enum_with_other_labels_is_refused(target: PostgresTarget) -> None:
    source = table(key_column(), column("m", "shop.mood"), types=(MOOD,))
    target.create(route(source))
    other = replace(MOOD, definition="AS ENUM ('happy')")
    with pytest.raises(ConfigError) as refused:
        target.create(route(replace(source, types=(other,))))
    assert refused.value.do == """ALTER TYPE "shop"."mood" RENAME VALUE 'sad' TO 'happy'"""


def test_an_extension_that_the_server_lacks_is_named(target: PostgresTarget) -> None:
    needs = UserType(TableName("public", "no_such_extension"), "extension", "")
    with pytest.raises(OperatorError) as refused:
        target.create(route(table(key_column(), types=(needs,))))
    assert "no_such_extension" in refused.value.what
    assert "columns: exclude" in refused.value.do


def test_defaults_are_kept_where_the_target_can_evaluate_them(target: PostgresTarget, target_db: Database) -> None:
    source = table(
        key_column(),
        column("a", "text", default="'it''s 100%'::text"),
        column("b", "timestamp with time zone", default="now()"),
        column("c", "integer", default="public.only_at_the_source()"),
    )
    target.create(route(source))
    found = columns_of(target_db, "public.t")
    assert [found[name][2] for name in "abc"] == ["'it''s 100%'::text", "now()", None]


def test_a_serial_column_gets_a_sequence_of_the_sources_name(target: PostgresTarget, target_db: Database) -> None:
    serial = column("id", "integer", nullable=False, default="nextval('public.t_id_seq'::regclass)")
    wanted = route(table(serial), to="sales.t")
    target.create(wanted)
    target_db.execute("INSERT INTO sales.t VALUES (41)")
    target.finish([wanted])
    assert target_db.value("INSERT INTO sales.t DEFAULT VALUES RETURNING id") == 42
    assert target_db.value("SELECT pg_get_serial_sequence('sales.t', 'id')") == "sales.t_id_seq"


@pytest.mark.parametrize("kind", ["always", "by default"])
def test_an_identity_column_can_be_written_and_goes_on_after_the_copy(
    target: PostgresTarget, target_db: Database, kind: str
) -> None:
    wanted = route(table(column("id", "bigint", nullable=False, identity=kind), column("a")))
    target.create(wanted)
    target_db.execute("INSERT INTO public.t VALUES (7, 'x')")
    target.finish([wanted])
    assert target_db.value("INSERT INTO public.t (a) VALUES ('y') RETURNING id") == 8
    target.finish([wanted])
    assert target_db.value("INSERT INTO public.t (a) VALUES ('y') RETURNING id") == 9


def test_generated_columns_are_generated_where_all_they_need_is_kept(
    target: PostgresTarget, target_db: Database
) -> None:
    source = table(
        key_column(),
        column("secret", "integer"),
        column("twice", "integer", default="(id * 2)", generated="stored"),
        column("leaky", "integer", default="(secret + 1)", generated="stored"),
        column("lost", "integer", default="public.only_at_the_source(id)", generated="stored"),
    )
    target.create(route(source, without=("secret",)))
    target_db.execute("INSERT INTO public.t VALUES (4)")
    assert list(columns_of(target_db, "public.t")) == ["id", "twice"]
    assert target_db.value("SELECT twice FROM public.t") == 8


def test_virtual_columns_are_made_on_every_version(pg: Callable, new_database: Callable[..., Database]) -> None:
    source = table(key_column(), column("twice", "integer", default="(id * 2)", generated="virtual"))
    for version in (14, 18):
        database = new_database(pg(version))
        PostgresTarget(database.url, "shop").create(route(source))
        database.execute("INSERT INTO public.t VALUES (4)")
        assert database.value("SELECT twice FROM public.t") == 8


def test_soft_deletes_get_their_column(target: PostgresTarget, target_db: Database) -> None:
    target.create(route(table(key_column()), on_delete=OnDelete.SOFT))
    assert columns_of(target_db, "public.t")["cdcflow_deleted_at"][0] == "timestamp with time zone"


def test_a_key_from_the_rules_becomes_a_unique_index(target: PostgresTarget, target_db: Database) -> None:
    source = table(column("a", "integer"), column("b", "text"), key=("b",), primary_key=())
    target.create(route(source, rename={"b": "B"}))
    assert target_db.query("SELECT indexdef FROM pg_indexes WHERE tablename = 't'") == [
        ('CREATE UNIQUE INDEX "t_B_idx" ON public.t USING btree ("B")',)
    ]


def test_a_table_of_a_persons_own_is_left_as_it_is(target: PostgresTarget, target_db: Database) -> None:
    target_db.execute("CREATE TABLE t (id bigint PRIMARY KEY, a varchar(5), extra int DEFAULT 7)")
    before = columns_of(target_db, "public.t")
    wanted = route(table(key_column(), column("a")))
    target.create(wanted)
    target.finish([wanted])
    assert columns_of(target_db, "public.t") == before


@pytest.mark.parametrize(
    ("there", "mends"),
    [
        ("id int PRIMARY KEY", 'ALTER TABLE "public"."t" ADD COLUMN "a" text'),
        ("id int, a text", 'CREATE UNIQUE INDEX ON "public"."t" ("id")'),
        ("id int PRIMARY KEY DEFERRABLE, a text", 'CREATE UNIQUE INDEX ON "public"."t" ("id")'),
        ("id int UNIQUE, a text, b int NOT NULL", 'ALTER TABLE "public"."t" ALTER COLUMN "b" DROP NOT NULL'),
        (
            "id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text",
            'ALTER TABLE "public"."t" ALTER COLUMN "id" SET GENERATED BY DEFAULT',
        ),
        (
            "id int PRIMARY KEY, a text GENERATED ALWAYS AS ('x') STORED",
            'ALTER TABLE "public"."t" ALTER COLUMN "a" DROP EXPRESSION',
        ),
    ],
)
def test_a_table_that_cannot_hold_the_rows_is_refused_with_the_statement_that_mends_it(
    target: PostgresTarget, target_db: Database, there: str, mends: str
) -> None:
    target_db.execute(f"CREATE TABLE t ({there})")
    wanted = route(table(key_column(), column("a")))
    with pytest.raises(ConfigError) as refused:
        target.create(wanted)
    assert refused.value.do == mends
    assert mends in [each.do for each in target.check([wanted]) if each.level == "blocker"]
    target_db.execute(mends)
    target.create(wanted)
    assert not [each for each in target.check([wanted]) if each.level == "blocker"]


def test_a_view_in_the_tables_place_is_refused(target: PostgresTarget, target_db: Database) -> None:
    target_db.execute("CREATE VIEW t AS SELECT 1 AS id")
    with pytest.raises(ConfigError, match="is a view"):
        target.create(route(table(key_column())))


def test_a_table_of_ours_that_fell_behind_is_brought_up_to_the_source(
    target: PostgresTarget, target_db: Database
) -> None:
    source = table(key_column(), column("a", "text", nullable=False))
    target.create(route(source))
    target_db.execute("INSERT INTO t VALUES (1, 'x')")
    now = table(key_column(), column("a"), column("b", "text", default="'y'::text", nullable=False))
    target.create(route(now))
    found = columns_of(target_db, "public.t")
    assert found["a"] == ("text", False, None)
    assert found["b"] == ("text", False, "'y'::text")
