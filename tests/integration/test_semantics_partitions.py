"""Partitioned tables: through the root into one table, or each partition as a table of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.semantics import FILLER_ROWS, Pair, pair
from tests.servers.fleet import PostgresServer
from tests.servers.waiting import until

# m_b was attached with its columns in another order and a dropped one among them; m_c has partitions of its own.
READINGS = """
CREATE TABLE m (id int, kind text, v text, n int DEFAULT 0, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE m_a PARTITION OF m FOR VALUES IN ('a');
CREATE TABLE m_b (n int DEFAULT 0, gone text, v text, kind text NOT NULL, id int NOT NULL, PRIMARY KEY (id, kind));
ALTER TABLE m_b DROP gone; ALTER TABLE m ATTACH PARTITION m_b FOR VALUES IN ('b');
CREATE TABLE m_c PARTITION OF m FOR VALUES IN ('c') PARTITION BY RANGE (id);
CREATE TABLE m_c1 PARTITION OF m_c FOR VALUES FROM (0) TO (1000);
CREATE TABLE m_c2 PARTITION OF m_c DEFAULT;
CREATE TABLE m_rest PARTITION OF m DEFAULT;
INSERT INTO m SELECT n, (ARRAY['a', 'b', 'c', 'd'])[1 + n % 4], 'v' || n FROM generate_series(1, 400) n;
CREATE TABLE semantics_ticks (id bigserial PRIMARY KEY);
"""
LEAVES = ("m_a", "m_b", "m_c1", "m_c2", "m_rest")
LARGE = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n)"

# Rows that move: between leaves, into a deeper one, there and back in one transaction, with a new key, with a
# large value that is not part of the UPDATE, and into the place of a row that was deleted before.
CHANGES = (
    f"INSERT INTO m VALUES (500, 'a', {LARGE}), (501, 'b', {LARGE}), (5000, 'c', 'far'), (502, 'z', 'rest')",
    "UPDATE m SET kind = 'b' WHERE id = 500; UPDATE m SET kind = 'a' WHERE id = 501",
    "UPDATE m SET kind = 'c' WHERE kind = 'a' AND id <= 100",
    "UPDATE m SET kind = 'q' WHERE id = 2; UPDATE m SET kind = 'c', v = 'back' WHERE id = 2",
    "UPDATE m SET id = id + 2000 WHERE kind = 'c' AND id % 8 = 6",
    "DELETE FROM m WHERE id = 7; UPDATE m SET id = 7, kind = 'd' WHERE id = 11 AND kind = 'd'",
    "UPDATE m SET n = n + 1 WHERE id IN (500, 501, 502, 5000, 2006)",
    "DELETE FROM m WHERE id BETWEEN 300 AND 320",
)


@pytest.fixture
def made(tmp_path: Path, pg_source: PostgresServer, pg_target: PostgresServer) -> Iterator[Pair]:
    """A pipeline of this test alone, over the partitioned table."""
    with pair(tmp_path, pg_source, pg_target) as made:
        made.source.execute(READINGS)
        yield made


def follow(made: Pair, way: str, check: Callable[[], None]) -> None:
    """Make all changes, one by one while it runs or all before one batch, and check after each that was applied."""
    if way == "in a large batch":
        for transaction in CHANGES:
            made.change(transaction)
        made.source.execute(f"INSERT INTO semantics_ticks SELECT FROM generate_series(1, {FILLER_ROWS})")
        made.run()
    else:
        running = made.commands.start("run")
        for transaction in CHANGES:
            made.change(transaction)
            made.until_applied(running)
            check()
        running.terminate()
        assert running.wait() == 0, running.output()
    check()
    # What the changes are for: rows did move, and large values went with them.
    assert made.source.query("SELECT kind, length(v) FROM m WHERE id IN (500, 501) ORDER BY id") == [
        ("b", 16_000),
        ("a", 16_000),
    ]


def in_target(made: Pair) -> set[str]:
    found = made.target.query("SELECT relname::text FROM pg_class WHERE relname ~ '^m(_|$)' AND relkind IN ('r', 'p')")
    return {name for (name,) in found}


@pytest.mark.parametrize("way", ["in small batches", "in a large batch"])
def test_rows_that_move_between_partitions_go_through_the_root_into_one_table(made: Pair, way: str) -> None:
    made.folder.write_rules("public.m", "public.semantics_ticks")
    made.run()
    made.same("m")
    assert in_target(made) == {"m"}
    follow(made, way, lambda: made.same("m"))


@pytest.mark.parametrize("way", ["in small batches", "in a large batch"])
def test_rows_that_move_between_partitions_move_between_the_tables_of_the_leaves(made: Pair, way: str) -> None:
    made.folder.write_rules("public.m_*", "public.semantics_ticks")
    made.run()
    made.same(*LEAVES)
    assert in_target(made) == set(LEAVES)
    follow(made, way, lambda: made.same(*LEAVES))


def test_some_of_the_leaves_are_replicated_without_the_others(made: Pair) -> None:
    made.folder.write_rules("public.m_[ab]", "public.semantics_ticks")
    made.run()
    assert in_target(made) == {"m_a", "m_b"}
    follow(made, "in small batches", lambda: made.same("m_a", "m_b"))
    assert made.target.value("SELECT count(*) FROM m_b WHERE id = 500") == 1


def test_a_leaf_that_is_emptied_alone_is_emptied_and_so_are_all_with_the_root(made: Pair) -> None:
    made.folder.write_rules("public.m_*", "public.semantics_ticks")
    made.run()
    running = made.commands.start("run")
    for transaction, left in (
        ("TRUNCATE m_a; INSERT INTO m VALUES (1000, 'a', 'after')", 1),
        ("TRUNCATE m_c", 1),
        ("TRUNCATE m; INSERT INTO m VALUES (1001, 'b', 'after'), (1002, 'c', 'after')", 0),
    ):
        made.change(transaction)
        made.until_applied(running)
        made.same(*LEAVES)
        assert made.target.value("SELECT count(*) FROM m_a") == left
    assert made.target.value("SELECT count(*) FROM m_c2") == 1


def test_rows_of_a_partition_that_is_made_later_come_through_the_root(made: Pair) -> None:
    made.folder.write_rules("public.m", "public.semantics_ticks")
    made.run()
    running = made.commands.start("run")
    made.until_applied(running)
    made.change("CREATE TABLE m_x PARTITION OF m FOR VALUES IN ('x'); INSERT INTO m VALUES (2000, 'x', 'new')")
    made.change("UPDATE m SET kind = 'x' WHERE id IN (4, 5, 6); UPDATE m SET kind = 'a' WHERE id = 2000")
    made.until_applied(running)
    made.same("m")
    assert made.target.value("SELECT count(*) FROM m WHERE kind = 'x'") == 3
    assert not running.ended


def test_a_partition_that_is_made_later_becomes_a_table_of_its_own_beside_the_other_leaves(made: Pair) -> None:
    made.folder.write_rules("public.m_*", "public.semantics_ticks")
    made.run()
    running = made.commands.start("run")
    made.until_applied(running)
    made.change("CREATE TABLE m_x PARTITION OF m FOR VALUES IN ('x'); INSERT INTO m VALUES (2000, 'x', 'new')")
    made.change("UPDATE m SET kind = 'x' WHERE id IN (4, 5, 6); UPDATE m SET kind = 'a' WHERE id = 2000")

    def equal() -> bool:
        assert not running.ended, running.output()[-4000:]
        made.same(*LEAVES, "m_x")
        return True

    until(equal, what="the new leaf is copied and the others followed")
    assert made.target.value("SELECT count(*) FROM m_x") == 3


def test_rules_that_change_from_the_leaves_to_the_root_copy_it_and_leave_the_tables_of_the_leaves_alone(
    made: Pair,
) -> None:
    made.folder.write_rules("public.m_*", "public.semantics_ticks")
    made.run()
    before = made.target.query("SELECT * FROM m_a ORDER BY id")
    assert len(before) == 100
    made.folder.write_rules("public.m", "public.semantics_ticks")
    made.change("INSERT INTO m VALUES (900, 'a', 'between'), (901, 'c', 'between')")
    made.run()
    made.same("m")
    made.change(
        "UPDATE m SET kind = 'b' WHERE id = 900; UPDATE m SET kind = 'a' WHERE id = 901; DELETE FROM m WHERE id = 4"
    )
    made.run()
    made.same("m")
    assert made.target.query("SELECT * FROM m_a ORDER BY id") == before
