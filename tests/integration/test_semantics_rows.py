"""Row changes end as the source has them: one by one in small batches, and netted in large ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.semantics import Case, Pair, follow_large, follow_small, pair
from tests.servers.fleet import PostgresServer

BIG = "(SELECT string_agg(md5(i::text || {salt}), '') FROM generate_series(1, 400) i)"


def big(salt: str = "0") -> str:
    """SQL for a value that is stored out of line."""
    return BIG.format(salt=salt)


# The outcome does not depend on the order within the batch.
SETS: dict[str, Case] = {
    "inserted_updated_and_deleted_rows": Case(
        "CREATE TABLE plain (id int PRIMARY KEY, a text, b int); INSERT INTO plain SELECT n, 'x', n FROM generate_series(1, 50) n",
        (
            "INSERT INTO plain SELECT n, 'new', n FROM generate_series(51, 60) n",
            "UPDATE plain SET a = 'y' WHERE id % 5 = 0",
            "UPDATE plain SET a = NULL, b = NULL WHERE id % 7 = 0",
            "DELETE FROM plain WHERE id % 3 = 0",
            "INSERT INTO plain VALUES (3, 'again', 3); DELETE FROM plain WHERE id = 3; INSERT INTO plain VALUES (3, 'third', 4)",
            "INSERT INTO plain VALUES (900, 'short life', 1); DELETE FROM plain WHERE id = 900",
            "DELETE FROM plain WHERE id = 1",
        ),
        ("plain",),
    ),
    "updated_keys": Case(
        "CREATE TABLE moved (id int PRIMARY KEY, a text); INSERT INTO moved SELECT n, 'row ' || n FROM generate_series(1, 30) n",
        (
            "UPDATE moved SET id = id + 100 WHERE id <= 5",
            "UPDATE moved SET id = 200 WHERE id = 101; UPDATE moved SET id = 1 WHERE id = 200",
            "UPDATE moved SET id = 500, a = 'both' WHERE id = 7; INSERT INTO moved VALUES (7, 'in its place')",
            "DELETE FROM moved WHERE id = 8; UPDATE moved SET id = 8 WHERE id = 9",
            "UPDATE moved SET id = id - 1000 WHERE id > 20; DELETE FROM moved WHERE id = -971",
        ),
        ("moved",),
    ),
    "two_swapped_keys": Case(
        "CREATE TABLE swapped (id int PRIMARY KEY, a text); INSERT INTO swapped VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        (
            "UPDATE swapped SET id = -1 WHERE id = 1; UPDATE swapped SET id = 1 WHERE id = 2; UPDATE swapped SET id = 2 WHERE id = -1",
        ),
        ("swapped",),
    ),
    "keys_shifted_in_a_row": Case(
        "CREATE TABLE shifted (id int PRIMARY KEY, a text); INSERT INTO shifted SELECT n, 'row ' || n FROM generate_series(9, 1, -1) n",
        ("UPDATE shifted SET id = id + 1",),
        ("shifted",),
    ),
    "a_key_of_two_columns_in_other_order": Case(
        "CREATE TABLE pairs (b text, a int, c text, PRIMARY KEY (a, b)); INSERT INTO pairs SELECT 'b\"' || n, n, 'c' FROM generate_series(1, 20) n",
        (
            "UPDATE pairs SET c = 'new' WHERE a < 5",
            "UPDATE pairs SET b = E'tab\\t\\\\ and \\n line' WHERE a = 6; UPDATE pairs SET c = 'x' WHERE a = 6",
            "DELETE FROM pairs WHERE a > 15",
            "DELETE FROM pairs WHERE a = 6",
        ),
        ("pairs",),
    ),
    "unchanged_large_values": Case(
        f"CREATE TABLE toasted (id int PRIMARY KEY, n int, big text, other text); ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;"
        f" ALTER TABLE toasted ALTER other SET STORAGE EXTERNAL;"
        f" INSERT INTO toasted SELECT n, n, {big('n::text')}, {big('(-n)::text')} FROM generate_series(1, 12) n",
        (
            "UPDATE toasted SET n = n + 1",
            "UPDATE toasted SET n = n + 1, other = 'short' WHERE id = 2",
            f"UPDATE toasted SET big = {big('9')} WHERE id = 3; UPDATE toasted SET n = 77 WHERE id = 3; UPDATE toasted SET other = 'o' WHERE id = 3",
            f"INSERT INTO toasted VALUES (20, 1, {big('20')}, NULL); UPDATE toasted SET n = 2 WHERE id = 20; UPDATE toasted SET id = 21 WHERE id = 20",
            "UPDATE toasted SET big = NULL WHERE id = 4; UPDATE toasted SET n = 5 WHERE id = 4",
            "DELETE FROM toasted WHERE id = 5",
            f"DELETE FROM toasted WHERE id = 6; INSERT INTO toasted VALUES (6, 1, 'x', {big('6')}); UPDATE toasted SET n = 3 WHERE id = 6",
        ),
        ("toasted",),
    ),
    "unchanged_large_values_under_a_new_key": Case(
        f"CREATE TABLE toasted_moved (id int PRIMARY KEY, n int, big text); ALTER TABLE toasted_moved ALTER big SET STORAGE EXTERNAL;"
        f" INSERT INTO toasted_moved SELECT n, n, {big('n::text')} FROM generate_series(1, 6) n",
        (
            "UPDATE toasted_moved SET id = id + 100 WHERE id < 4",
            "UPDATE toasted_moved SET id = -1 WHERE id = 101; UPDATE toasted_moved SET id = 101 WHERE id = 102;"
            " UPDATE toasted_moved SET id = 102, n = 0 WHERE id = -1",
            "UPDATE toasted_moved SET id = 55 WHERE id = 4; INSERT INTO toasted_moved VALUES (4, 1, 'other')",
        ),
        ("toasted_moved",),
    ),
    "unchanged_large_values_with_a_full_identity": Case(
        f"CREATE TABLE toasted_full (id int PRIMARY KEY, n int, big text); ALTER TABLE toasted_full REPLICA IDENTITY FULL;"
        f" ALTER TABLE toasted_full ALTER big SET STORAGE EXTERNAL;"
        f" INSERT INTO toasted_full SELECT n, n, {big('n::text')} FROM generate_series(1, 5) n",
        (
            "UPDATE toasted_full SET n = 100 WHERE id = 1",
            "UPDATE toasted_full SET id = 200 WHERE id = 2",
            "UPDATE toasted_full SET big = 'short' WHERE id = 3; DELETE FROM toasted_full WHERE id = 4",
        ),
        ("toasted_full",),
    ),
    "a_replica_identity_index": Case(
        "CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL, a text); CREATE UNIQUE INDEX by_code ON by_index (code);"
        " ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_code; INSERT INTO by_index SELECT n, 'c' || n, 'x' FROM generate_series(1, 20) n",
        (
            "UPDATE by_index SET a = 'new' WHERE id < 5",
            "UPDATE by_index SET id = id + 100 WHERE id > 15",
            "UPDATE by_index SET code = 'other' WHERE id = 6",
            "UPDATE by_index SET code = 'c99', id = 999 WHERE id = 8",
            "DELETE FROM by_index WHERE id = 7",
        ),
        ("by_index",),
    ),
    "a_key_and_a_full_identity": Case(
        "CREATE TABLE full_keyed (id int PRIMARY KEY, a text); ALTER TABLE full_keyed REPLICA IDENTITY FULL;"
        " INSERT INTO full_keyed SELECT n, NULLIF('x' || n, 'x3') FROM generate_series(1, 20) n",
        (
            "UPDATE full_keyed SET a = NULL WHERE id < 3; UPDATE full_keyed SET id = 300 WHERE id = 3",
            "DELETE FROM full_keyed WHERE id > 15",
        ),
        ("full_keyed",),
    ),
    "rows_without_a_key_some_of_them_equal": Case(
        "CREATE TABLE keyless (a text, b numeric, c json, d float8, e point); ALTER TABLE keyless REPLICA IDENTITY FULL;"
        " INSERT INTO keyless VALUES ('same', 1.0, '{\"a\":1}', 1, '(1,2)'), ('same', 1.0, '{\"a\":1}', 1, '(1,2)'),"
        " ('same', 1.00, '{\"a\": 1}', 1, '(1,2)'), (NULL, NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL, NULL),"
        " ('nan', 'NaN', '[]', 'NaN', NULL), ('zero', 0, NULL, '-0', NULL), ('zero', 0, NULL, 0, NULL)",
        (
            "UPDATE keyless SET a = 'changed' WHERE ctid = (SELECT min(ctid) FROM keyless WHERE a = 'same' AND b::text = '1.0')",
            "DELETE FROM keyless WHERE ctid = (SELECT min(ctid) FROM keyless WHERE a IS NULL)",
            "UPDATE keyless SET b = 2 WHERE a IS NULL",
            "DELETE FROM keyless WHERE b::text = '1.00'",
            "UPDATE keyless SET c = '{}' WHERE a = 'nan'; DELETE FROM keyless WHERE d::text = '-0'",
            "INSERT INTO keyless (a) VALUES ('in'), ('in'), ('in'); DELETE FROM keyless WHERE ctid = (SELECT max(ctid) FROM keyless WHERE a = 'in')",
        ),
        ("keyless",),
    ),
    "changes_within_savepoints": Case(
        "CREATE TABLE saved (id int PRIMARY KEY, a text)",
        (
            "INSERT INTO saved VALUES (1, 'kept'); SAVEPOINT a; INSERT INTO saved VALUES (2, 'undone'); ROLLBACK TO a;"
            " INSERT INTO saved VALUES (2, 'kept'); SAVEPOINT b; UPDATE saved SET a = 'kept too' WHERE id = 1; RELEASE b",
            "DO $$ BEGIN FOR i IN 100..190 LOOP BEGIN INSERT INTO saved VALUES (i, 'sub');"
            " IF i % 10 = 0 THEN RAISE EXCEPTION 'no'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$",
        ),
        ("saved",),
    ),
    "children_before_their_parents": Case(
        "CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (id int PRIMARY KEY,"
        " parent int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);"
        " INSERT INTO parents VALUES (1), (2), (3), (4); INSERT INTO children VALUES (1, 1), (2, 2), (3, 3)",
        (
            "INSERT INTO children VALUES (10, 10); INSERT INTO parents VALUES (10)",
            "DELETE FROM parents WHERE id = 1",
            "UPDATE parents SET id = 20 WHERE id = 2",
            "UPDATE children SET parent = 4 WHERE id = 3; DELETE FROM parents WHERE id = 3",
        ),
        ("parents", "children"),
    ),
    "identity_and_generated_columns": Case(
        "CREATE TABLE generated (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY (START 100),"
        " a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b text DEFAULT 'd');".replace(
            "n int GENERATED ALWAYS AS IDENTITY (START 100),", "n int GENERATED BY DEFAULT AS IDENTITY (START 100),"
        )
        + " INSERT INTO generated (a) SELECT n FROM generate_series(1, 20) n",
        (
            "INSERT INTO generated (a) VALUES (1000)",
            "UPDATE generated SET a = a + 1 WHERE id < 10",
            "UPDATE generated SET id = DEFAULT WHERE id = 4",
            "DELETE FROM generated WHERE id = 12",
            "INSERT INTO generated (id, a) OVERRIDING SYSTEM VALUE VALUES (5000, 5)",
        ),
        ("generated",),
    ),
    "rows_of_partitions": Case(
        "CREATE TABLE parted (id int, at date, a text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);"
        " CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');"
        " CREATE TABLE parted_2 (a text, at date NOT NULL, id int NOT NULL);"
        " ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');"
        " INSERT INTO parted SELECT n, '2024-01-01'::date + n * 30, 'x' FROM generate_series(1, 20) n",
        (
            "INSERT INTO parted VALUES (100, '2024-05-05', 'root')",
            "INSERT INTO parted_2 (id, at, a) VALUES (101, '2025-05-05', 'leaf')",
            "UPDATE parted SET at = '2025-06-06', a = 'moved' WHERE id = 3",
            "UPDATE parted SET at = '2024-06-06' WHERE id = 15; UPDATE parted SET a = 'y' WHERE id = 15",
            "DELETE FROM parted WHERE id = 5",
        ),
        ("parted",),
    ),
}

# A set of rows meets a unique index on the way to the same end.
CONFLICTS: dict[str, Case] = {
    "two_swapped_unique_values": Case(
        "CREATE TABLE uniques (id int PRIMARY KEY, u text UNIQUE, v int); INSERT INTO uniques VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
        (
            "UPDATE uniques SET u = 'x' WHERE id = 1; UPDATE uniques SET u = 'a' WHERE id = 2; UPDATE uniques SET u = 'b' WHERE id = 1",
            "UPDATE uniques SET u = NULL WHERE id = 3; UPDATE uniques SET u = 'c' WHERE id = 2",
        ),
        ("uniques",),
    ),
    "a_unique_value_deleted_and_inserted_again": Case(
        "CREATE TABLE reused (id int PRIMARY KEY, u text UNIQUE); INSERT INTO reused SELECT n, 'u' || n FROM generate_series(1, 20) n",
        (
            "DELETE FROM reused WHERE id = 1; INSERT INTO reused VALUES (101, 'u1')",
            "UPDATE reused SET u = 'free' WHERE id = 2; INSERT INTO reused VALUES (102, 'u2')",
            "INSERT INTO reused VALUES (103, 'brief'); UPDATE reused SET u = 'else' WHERE id = 103; UPDATE reused SET u = 'brief' WHERE id = 4",
        ),
        ("reused",),
    ),
    "deferred_unique_swaps_in_one_statement": Case(
        "CREATE TABLE deferred (id int PRIMARY KEY, u int UNIQUE DEFERRABLE); INSERT INTO deferred VALUES (1, 1), (2, 2), (3, 3)",
        ("UPDATE deferred SET u = 4 - u",),
        ("deferred",),
    ),
    "deferred_key_swaps_in_one_statement": Case(
        "CREATE TABLE deferred_key (id int PRIMARY KEY DEFERRABLE, a text); ALTER TABLE deferred_key REPLICA IDENTITY FULL;"
        " INSERT INTO deferred_key VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        ("UPDATE deferred_key SET id = 4 - id",),
        ("deferred_key",),
    ),
    "an_exclusion_constraint": Case(
        "CREATE TABLE rooms (id int PRIMARY KEY, at int4range, EXCLUDE USING gist (at WITH &&)); INSERT INTO rooms VALUES (1, '[1,5)'), (2, '[5,9)')",
        (
            "UPDATE rooms SET at = '[20,25)' WHERE id = 1; UPDATE rooms SET at = '[1,5)' WHERE id = 2; UPDATE rooms SET at = '[5,9)' WHERE id = 1",
        ),
        ("rooms",),
    ),
}


@pytest.fixture(scope="module", params=["in small batches", "in a large batch"])
def followed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pg_source: PostgresServer,
    pg_target: PostgresServer,
) -> Iterator[Pair]:
    """All cases, followed either way."""
    with pair(tmp_path_factory.mktemp("rows"), pg_source, pg_target) as made:
        if request.param == "in small batches":
            follow_small(made, [*SETS.values(), *CONFLICTS.values()])
        else:
            follow_large(made, list(SETS.values()))
        yield made


@pytest.fixture(scope="module")
def followed_conflicts(
    tmp_path_factory: pytest.TempPathFactory, pg_source: PostgresServer, pg_target: PostgresServer
) -> Iterator[Pair]:
    """The cases that no set of rows can follow, in one large batch."""
    with pair(tmp_path_factory.mktemp("conflicts"), pg_source, pg_target) as made:
        follow_large(made, list(CONFLICTS.values()))
        yield made


@pytest.mark.parametrize("case", SETS)
def test_these_changes_end_as_at_the_source(followed: Pair, case: str) -> None:
    followed.same(*SETS[case].tables)


@pytest.mark.parametrize("case", CONFLICTS)
def test_conflicts_on_the_way_end_as_at_the_source(followed_conflicts: Pair, case: str) -> None:
    followed_conflicts.same(*CONFLICTS[case].tables)
