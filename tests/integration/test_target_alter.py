"""From one shape of a table to the next at the target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection

from cdcflow.engines.postgres.connect import connect
from cdcflow.errors import SchemaStop
from cdcflow.model.route import OnDelete, Route, SchemaChanges
from cdcflow.model.schema import Column, Logical, TableName, UserType
from cdcflow.targets.postgres import PostgresTarget, alter, altering, catalog
from tests.integration.target_shapes import column, key_column, route, table
from tests.servers.database import Database

ID = key_column()
A = column("a", "text", 2)


@pytest.fixture
def target(target_db: Database) -> Iterator[Connection]:
    with connect(target_db.url, side="target") as connection:
        yield connection


def made(connection: Connection, *columns: Column, rows: str = "", **more: object) -> Route:
    """Make `public.t` with these columns and rows; return its route."""
    wanted = route(table(*columns, **more))
    info = connection.info
    PostgresTarget(f"postgresql://{info.user}@{info.host}:{info.port}/{info.dbname}", "shop").create(wanted)
    if rows:
        connection.execute(f"INSERT INTO t VALUES {rows}")
    return wanted


def follow(connection: Connection, old: Route, new: Route, *, rows_lag: bool = False) -> list[str]:
    """Do as the applier does: read what is there, run the statements, all in one transaction."""
    with connection.transaction():
        statements = alter.statements(old, new, catalog.shape(connection, new), rows_lag=rows_lag)
        for statement in statements:
            connection.execute(statement)
    return statements


def rows(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM public.t ORDER BY 1").fetchall()


def columns(connection: Connection) -> dict[str, str]:
    found = catalog.table(connection, TableName("public", "t"))
    assert found is not None
    return {each.name: each.type for each in found.columns}


@pytest.fixture(autouse=True)
def _search_path(target: Connection) -> None:
    target.execute("SET search_path = public")


def test_an_added_column_has_the_value_that_older_rows_have_at_the_source(target: Connection) -> None:
    old = made(target, ID, A, rows="(1, 'x')")
    new = route(
        table(
            ID,
            A,
            column("constant", "integer", 3, default="7", missing="7", nullable=False),
            column("clock", "date", 4, default="CURRENT_DATE", missing="2020-02-02"),
            column("later", "text", 5, default="'now'::text", missing="then"),
            column("lists", "text[]", 6, missing='{"a,b",NULL}'),
            column("nothing", "text", 7),
        )
    )
    follow(target, old, new)
    (row,) = target.execute("SELECT constant, clock::text, later, lists, nothing FROM t").fetchall()
    assert row == (7, "2020-02-02", "then", ["a,b", None], None)
    target.execute("INSERT INTO t (id) VALUES (2)")
    assert target.execute("SELECT constant, later FROM t WHERE id = 2").fetchone() == (7, "now")
    assert follow(target, old, new) == []


def test_rows_that_lack_an_added_column_have_what_older_rows_have_where_such_may_still_come(target: Connection) -> None:
    old = made(target, ID, rows="(1)")
    new = route(
        table(
            ID,
            column("dropped", "integer", 2, missing="7", nullable=False),
            column("changed", "text", 3, default="'now'::text", missing="then"),
            column("clock", "date", 4, default="CURRENT_DATE", missing="2020-02-02"),
        )
    )
    follow(target, old, new, rows_lag=True)
    target.execute("INSERT INTO t (id) VALUES (2)")
    found = target.execute("SELECT dropped, changed, clock::text FROM t").fetchall()
    assert found == [(7, "then", "2020-02-02")] * 2


def test_an_added_column_that_is_not_null_only_now_takes_the_rows_of_before(target: Connection) -> None:
    """It was added, filled and made NOT NULL at the source while the log was behind."""
    old = made(target, ID, rows="(1)")
    follow(target, old, route(table(ID, column("a", "text", 2, nullable=False))))
    assert rows(target) == [(1, None)]


def test_a_dropped_column_is_dropped_and_one_of_the_same_name_is_another(target: Connection) -> None:
    old = made(target, ID, A, rows="(1, 'x')")
    follow(target, old, route(table(ID, column("a", "integer", 3))))
    assert rows(target) == [(1, None)]
    assert columns(target) == {"id": "integer", "a": "integer"}


def test_a_renamed_column_keeps_its_values(target: Connection) -> None:
    old = made(target, ID, A, rows="(1, 'x')")
    new = route(table(ID, replace(A, name='b "%" 🐘')))
    follow(target, old, new)
    assert columns(target) == {"id": "integer", 'b "%" 🐘': "text"}
    assert rows(target) == [(1, "x")]
    assert follow(target, old, new) == []


def test_columns_that_swap_their_names_keep_their_values(target: Connection) -> None:
    b, c = column("b", "text", 3), column("c", "text", 4)
    old = made(target, ID, A, b, c, rows="(1, 'a', 'b', 'c')")
    follow(target, old, route(table(ID, replace(A, name="b"), replace(b, name="c"), replace(c, name="a"))))
    assert target.execute("SELECT b, c, a FROM t").fetchone() == ("a", "b", "c")


def test_a_rename_that_a_rule_no_longer_covers_follows_the_source(target: Connection) -> None:
    old_table = table(ID, A)
    old = made(target, ID, replace(A, name="ziel"), rows="(1, 'x')")
    old = replace(old, source=old_table, columns=((ID, "id"), (A, "ziel")))
    follow(target, old, route(table(ID, replace(A, name="b"))))
    assert columns(target) == {"id": "integer", "b": "text"}
    assert rows(target) == [(1, "x")]


@pytest.mark.parametrize(
    ("before", "after", "value", "becomes"),
    [
        ("integer", "bigint", "5", 5),
        ("text", "integer", "'12'", 12),
        ("integer", "text", "5", "5"),
        ("boolean", "integer", "true", 1),
        ("bigint", "boolean", "1", True),
        ("text", "integer", "'no number'", None),
        ("text", "integer[]", "'{1,2}'", [1, 2]),
    ],
)
def test_a_column_follows_a_change_of_type(
    target: Connection, before: str, after: str, value: str, becomes: object
) -> None:
    """Where the value cannot be cast the source rewrote the table, and it is copied again."""
    default = "'0'::text" if before == "text" else None
    old = made(target, ID, column("a", before, 2, default=default, nullable=False), rows=f"(1, {value})")
    follow(target, old, route(table(ID, column("a", after, 2, nullable=False))))
    assert columns(target)["a"] == after
    assert rows(target) == [(1, becomes)]


def test_a_change_of_type_of_a_key_keeps_the_key(target: Connection) -> None:
    old = made(target, ID, A, rows="(1, 'x')")
    follow(target, old, route(table(column("id", "bigint", 1, nullable=False), A)))
    found = catalog.table(target, TableName("public", "t"))
    assert found is not None
    assert found.primary_key is not None
    assert columns(target)["id"] == "bigint"


def test_a_foreign_key_that_the_source_dropped_does_not_hold_a_column_back(target: Connection) -> None:
    other = column("other", "integer", 2)
    old = made(target, ID, other, rows="(1, 1)")
    target.execute("CREATE TABLE child (t int CONSTRAINT to_t REFERENCES t)")
    target.execute("ALTER TABLE t ADD CONSTRAINT to_self FOREIGN KEY (other) REFERENCES t")
    now = route(table(column("id", "text", 1, nullable=False), other))
    follow(target, old, now)
    assert rows(target) == [("1", 1)]
    target.execute("ALTER TABLE child ALTER t TYPE text, ADD CONSTRAINT to_t FOREIGN KEY (t) REFERENCES t")
    follow(target, now, route(table(column("other", "integer", 2, nullable=False), key=("other",))))
    assert rows(target) == [(1,)]


def test_a_column_that_may_be_null_now_may_be_at_the_target(target: Connection) -> None:
    old = made(target, ID, replace(A, nullable=False))
    follow(target, old, route(table(ID, A)))
    target.execute("INSERT INTO t VALUES (1, NULL)")


def test_not_null_is_not_followed_because_rows_of_the_past_may_break_it(target: Connection) -> None:
    old = made(target, ID, A)
    assert follow(target, old, route(table(ID, replace(A, nullable=False)))) == []


def test_another_key_takes_the_place_of_the_old_one(target: Connection) -> None:
    a = replace(A, nullable=False)
    old = made(target, ID, a, rows="(1, 'x'), (2, 'y')")
    follow(target, old, route(table(ID, a, key=("a",))))
    target.execute("INSERT INTO t VALUES (1, 'z')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        target.execute("INSERT INTO t VALUES (3, 'z')")


def test_a_table_that_lost_its_key_takes_equal_rows(target: Connection) -> None:
    old = made(target, ID, A, rows="(1, 'x')")
    follow(target, old, route(table(replace(ID, nullable=True), A, key=())))
    target.execute("INSERT INTO t VALUES (1, 'x')")


def test_a_renamed_key_column_keeps_the_primary_key(target: Connection) -> None:
    old = made(target, ID, A)
    new = route(table(replace(ID, name="number"), A, key=("number",)))
    assert follow(target, old, new) == ['ALTER TABLE "public"."t" RENAME COLUMN "id" TO "number"']


def test_a_new_user_type_comes_with_its_column(target: Connection) -> None:
    old = made(target, ID, rows="(1)")
    mood = UserType(TableName("shop", "mood"), "enum", "AS ENUM ('sad', 'glad')")
    new = route(table(ID, column("m", "shop.mood", 2, default="'glad'::shop.mood", missing="glad"), types=(mood,)))
    follow(target, old, new)
    assert rows(target) == [(1, "glad")]


def test_generated_columns_come_and_go(target: Connection) -> None:
    twice = column("twice", "integer", 3, default="(id * 2)", generated="stored")
    lost = column("lost", "integer", 4, default="public.only_at_the_source(id)", generated="stored")
    plain = made(target, ID, A, rows="(1, 'x')")
    with_it = route(table(ID, A, twice, lost))
    follow(target, plain, with_it)
    assert rows(target) == [(1, "x", 2)]
    follow(target, with_it, route(table(ID, A)))
    assert columns(target) == {"id": "integer", "a": "text"}


def test_soft_deletes_keep_their_column(target: Connection) -> None:
    old = made(target, ID, A)
    old = replace(old, on_delete=OnDelete.SOFT)
    follow(target, old, replace(route(table(ID, A, column("b", "text", 3))), on_delete=OnDelete.SOFT))
    assert "cdcflow_deleted_at" in columns(target)


def test_rules_that_say_stop_stop_with_the_statements_and_go_on_after_them(target: Connection) -> None:
    old = made(target, ID, A)
    new = route(table(ID, column("b", "text", 3)), schema_changes=SchemaChanges.STOP)
    with pytest.raises(SchemaStop) as stopped:
        follow(target, old, new)
    *statements, last = stopped.value.do.splitlines()
    assert last == "then start cdcflow again"
    for statement in statements:
        target.execute(statement)
    assert follow(target, old, new) == []


def test_rules_that_say_ignore_leave_the_target_alone(target: Connection) -> None:
    old = made(target, ID, A)
    new = route(table(ID, column("b", "text", 3)), schema_changes=SchemaChanges.IGNORE)
    assert follow(target, old, new) == []


def test_a_renamed_table_that_would_go_elsewhere_stops(target: Connection) -> None:
    old = made(target, ID, A)
    new = route(table(ID, A, name="public.other"))
    with pytest.raises(SchemaStop, match=r"now called public\.other"):
        follow(target, old, new)
    assert follow(target, old, replace(new, target=old.target)) == []


def test_a_target_table_that_is_gone_stops(target: Connection) -> None:
    old = made(target, ID, A)
    target.execute("DROP TABLE t")
    with pytest.raises(SchemaStop) as stopped:
        follow(target, old, route(table(ID)))
    assert stopped.value.do == "cdcflow resync public.t"


_NAMES = ("a", "b", "c", 'd"e')
_SHAPES = st.lists(
    st.tuples(st.integers(2, 6), st.sampled_from(["integer", "bigint", "text", "numeric(6,0)"])),
    unique_by=lambda pair: pair[0],
    max_size=4,
).flatmap(
    lambda parts: st.permutations(_NAMES).map(
        lambda names: [column(name, kind, number) for name, (number, kind) in zip(names, parts, strict=False)]
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=_SHAPES, after=_SHAPES)
def test_any_shape_can_become_any_other(target: Connection, before: list[Column], after: list[Column]) -> None:
    target.execute("DROP TABLE IF EXISTS t")
    old = made(target, ID, *before, rows="(1" + ", '5'" * len(before) + ")")
    new = route(table(ID, *after))
    follow(target, old, new)
    assert columns(target) == {"id": "integer"} | {each.name: each.type.text for each in after}
    kept = {each.number for each in before}
    for each in after:
        value = target.execute(f"SELECT {psycopg.sql.Identifier(each.name).as_string()} = '5' FROM t").fetchone()
        assert value == ((True,) if each.number in kept else (None,))


def test_a_value_that_cannot_be_cast_stops_where_only_messages_tell_of_the_table(target: Connection) -> None:
    old = made(target, ID, column("v", "integer", 2), rows="(1, 7)", described=True)
    target.execute("ALTER TABLE t ALTER v TYPE text; UPDATE t SET v = 'seven'")
    whole = replace(column("v", "bigint", 2), logical=Logical.INT8)
    old = replace(old, source=table(ID, replace(column("v", "integer", 2), logical=Logical.INT4), described=True))
    new = route(table(ID, whole, described=True))
    (statement,) = alter.statements(old, new, catalog.shape(target, new))
    with pytest.raises(SchemaStop, match=r"table public\.t cannot be altered"):
        altering.run(target.execute, statement, new, "here")
    assert rows(target) == [(1, "seven")]
