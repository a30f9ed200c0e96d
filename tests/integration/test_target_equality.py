"""Rows are found by values of any type: its equality may be missing, stand in another schema, or be a loose one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cdcflow.engines.postgres.connect import connect
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.schema import ReplicaIdentity
from cdcflow.targets.postgres import catalog
from cdcflow.targets.postgres.equality import equalities
from cdcflow.targets.postgres.plan import plan
from tests.integration.target_feed import Fed, found
from tests.integration.target_shapes import column, route, table
from tests.servers.database import Database

SMALL_AND_LARGE = pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])


@pytest.fixture
def fed(target_db: Database) -> Iterator[Fed]:
    fed = Fed(target_db)
    yield fed
    fed.close()


# Compares without case, its operators stand in `public`, and it can be taken for text: as citext.
WORD = """
CREATE TYPE word;
CREATE FUNCTION word_in(cstring) RETURNS word IMMUTABLE STRICT LANGUAGE internal AS 'textin';
CREATE FUNCTION word_out(word) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'textout';
CREATE TYPE word (INPUT = word_in, OUTPUT = word_out, LIKE = text, CATEGORY = 'S');
CREATE CAST (word AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE FUNCTION word_cmp(word, word) RETURNS int IMMUTABLE STRICT LANGUAGE sql
  RETURN bttextcmp(lower($1::text), lower($2::text));
CREATE FUNCTION word_lt(word, word) RETURNS bool IMMUTABLE STRICT LANGUAGE sql RETURN word_cmp($1, $2) < 0;
CREATE FUNCTION word_le(word, word) RETURNS bool IMMUTABLE STRICT LANGUAGE sql RETURN word_cmp($1, $2) <= 0;
CREATE FUNCTION word_eq(word, word) RETURNS bool IMMUTABLE STRICT LANGUAGE plpgsql
  AS 'BEGIN RETURN public.word_cmp($1, $2) = 0; END';  -- not one that the planner would put in its place
CREATE FUNCTION word_ge(word, word) RETURNS bool IMMUTABLE STRICT LANGUAGE sql RETURN word_cmp($1, $2) >= 0;
CREATE FUNCTION word_gt(word, word) RETURNS bool IMMUTABLE STRICT LANGUAGE sql RETURN word_cmp($1, $2) > 0;
CREATE OPERATOR < (LEFTARG = word, RIGHTARG = word, FUNCTION = word_lt);
CREATE OPERATOR <= (LEFTARG = word, RIGHTARG = word, FUNCTION = word_le);
CREATE OPERATOR = (LEFTARG = word, RIGHTARG = word, FUNCTION = word_eq);
CREATE OPERATOR >= (LEFTARG = word, RIGHTARG = word, FUNCTION = word_ge);
CREATE OPERATOR > (LEFTARG = word, RIGHTARG = word, FUNCTION = word_gt);
CREATE OPERATOR CLASS word_ops DEFAULT FOR TYPE word USING btree
  AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 word_cmp(word, word);
CREATE DOMAIN document AS json;
CREATE DOMAIN documents AS json[];
CREATE TYPE mood AS ENUM ('a');
CREATE TYPE duo AS (a int, b mood);
CREATE TYPE uncomparable AS (a int, b json);
"""

# One value, and one that an operator holds for equal, or could; None where there is no such.
ODD: dict[str, tuple[bytes, bytes | None]] = {
    "json[]": (b'{"{}"}', b'{"{ }"}'),
    "point[]": (b'{"(1,2)"}', b'{"(1,3)"}'),
    "jsonpath": (b'$."a"', b'$."b"'),
    "pg_snapshot": (b"10:20:10", b"10:20:11"),
    "txid_snapshot": (b"10:20:10", b"10:20:11"),
    "refcursor": (b"a", b"b"),
    "box": (b"(1,1),(0,0)", b"(2,2),(1,1)"),
    "circle": (b"<(0,0),1>", b"<(1,1),1>"),
    "numeric[]": (b"{1.0}", b"{1.00}"),
    "numrange": (b"[1.0,2)", b"[1.00,2)"),
    "jsonb": (b'{"a": 1.0}', b'{"a": 1.00}'),
    "int4range": (b"[1,2)", None),
    "xid": (b"5", b"6"),
    "tsvector": (b"'a'", None),
    "character(5)": (b"abcde", None),
    "public.word": (b"A", b"a"),
    "public.word[]": (b"{A}", b"{a}"),
    "public.document": (b"{}", b"{ }"),
    "public.documents": (b'{"{}"}', b'{"{ }"}'),
    "public.mood": (b"a", None),
    "public.duo": (b"(1,a)", b"(2,a)"),
    "public.uncomparable": (b"(1,{})", b'(1,"{ }")'),
    "public.duo[]": (b'{"(1,a)"}', None),
}


def test_rows_without_a_key_are_found_whatever_their_types_can_compare(fed: Fed) -> None:
    fed.database.execute(WORD)
    for number, (kind, (value, other)) in enumerate(ODD.items()):
        source = table(column("id", "integer"), column("v", kind), key=(), name=f"public.t{number}")
        wanted = route(replace(source, identity=ReplicaIdentity.FULL))
        fed.target.create(wanted)
        if other is not None:
            fed.apply(wanted, [("I", None, [b"1", other])])
        fed.apply(wanted, [("I", None, [b"1", value])])
        fed.apply(wanted, [("U", [b"1", value], [b"2", value])])
        left = found(fed, f"SELECT id, v::text FROM t{number} ORDER BY 1")
        assert left == ([(1, other.decode())] if other is not None else []) + [(2, value.decode())], kind
        fed.apply(wanted, [("D", [b"2", value], None)])
        assert len(found(fed, f"SELECT FROM t{number}")) == (other is not None), kind


@SMALL_AND_LARGE
@pytest.mark.parametrize("columns", [("id",), ("id", "n")])
def test_a_key_is_compared_by_its_types_own_operator(fed: Fed, columns: tuple[str, ...], large: bool) -> None:
    fed.database.execute(WORD)
    key = (column("id", "public.word", nullable=False), column("n", "integer", nullable=False))
    wanted = route(table(*key, column("v"), key=columns))
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"A", b"1", b"x"]), ("I", None, [b"B", b"1", b"x"])], large=large)
    fed.apply(wanted, [("U", None, [b"a", b"1", b"y"]), ("D", [b"b", b"1", UNCHANGED], None)], large=large)
    assert found(fed, "SELECT v FROM t") == [("y",)]
    fed.apply(wanted, [("U", [b"a", b"1", UNCHANGED], [b"C", b"1", UNCHANGED])], large=large)
    assert found(fed, "SELECT id::text, v FROM t") == [("C", "y")]


def test_a_key_of_a_type_of_ones_own_is_found_by_its_index(fed: Fed) -> None:
    fed.database.execute(WORD)
    wanted = route(table(column("id", "public.word", nullable=False), column("v")))
    fed.target.create(wanted)
    with connect(fed.database.url, side="target") as connection:
        connection.execute("SET enable_seqscan = off")
        there = catalog.table(connection, wanted.target)
        assert there is not None
        made = plan(wanted, ("id", "v"), there, 1, equalities(connection, there.oid))
        connection.execute(made.create_stage())
        for statement, value in (
            (made.delete_row(), "'a'"),
            (made.delete_keys(), "'{a}'"),
            (made.update_from_stage((0, 1)), ""),
        ):
            lines = connection.execute(f"EXPLAIN {statement.replace('$1', value)}").fetchall()
            assert any("t_pkey" in line for (line,) in lines), lines
