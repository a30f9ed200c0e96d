"""Foreign keys that change rows without a word in the log, added to tables while they are followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mysql_pairs import Pair, pair
from tests.servers.fleet import Fleet
from tests.servers.waiting import until

PARENT = "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1), (2), (3)"
CHILD = "CREATE TABLE c (id int PRIMARY KEY, p int); INSERT INTO c VALUES (1, 1), (2, 2), (3, 3)"
SILENT = "changes its rows without a word in the log"


@pytest.fixture
def made(tmp_path: Path, fleet: Fleet) -> Iterator[Pair]:
    with pair(tmp_path, fleet, "mariadb-sqlite") as found:
        found.source.execute(f"{PARENT}; {CHILD}")
        yield found


@pytest.mark.parametrize("way", ["alone", "with a column"])
def test_one_that_deletes_rows_stops_the_run_where_it_stands_in_the_log(made: Pair, way: str) -> None:
    made.run()
    running = made.start()
    running.until_output("streaming")
    made.source.execute(
        "ALTER TABLE c ADD CONSTRAINT k FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE"
        if way == "alone"
        else "ALTER TABLE c ADD COLUMN q int CONSTRAINT k REFERENCES p (id) ON UPDATE NO ACTION ON DELETE SET NULL"
    )
    until(lambda: running.ended, what="the run stops")
    assert running.wait() == 5
    assert SILENT in running.output()
    assert f"{made.schema}.c" in running.output()
    # What it says at the next start is the same.
    assert SILENT in made.run(exit_code=5)
    # Rows that are gone without a word are gone in the copy, too, once the key is.
    made.source.execute("INSERT INTO c (id, p) VALUES (4, 1); DELETE FROM p WHERE id = 1")
    (name,) = made.source.query(
        "SELECT constraint_name FROM information_schema.referential_constraints"
        f" WHERE constraint_schema = '{made.schema}' AND table_name = 'c'"
    )
    made.source.execute(f"ALTER TABLE c DROP FOREIGN KEY `{name[0]}`; INSERT INTO c (id, p) VALUES (5, 2)")
    made.run()
    made.run()  # what is copied again comes behind what is followed
    assert made.there("c", "id, p") == made.source.query("SELECT id, p FROM c ORDER BY id")


def test_one_that_changes_keys_is_a_warning(made: Pair) -> None:
    made.run()
    made.source.execute(
        "ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p (id) ON UPDATE CASCADE; INSERT INTO c VALUES (4, 1)"
    )
    said = made.run()
    assert "ON UPDATE CASCADE" in said
    assert SILENT in said
    assert made.there("c") == [(1, 1), (2, 2), (3, 3), (4, 1)]


def test_a_table_that_is_made_anew_with_one_is_refused(made: Pair) -> None:
    made.run()
    running = made.start()
    running.until_output("streaming")
    made.source.execute(
        "DROP TABLE c; CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p (id) ON DELETE CASCADE);"
        "INSERT INTO c VALUES (7, 1); INSERT INTO p VALUES (9)"
    )
    running.until_output(SILENT, limit=60)
    running.terminate()
    running.wait()


def test_where_the_log_has_what_they_change_they_are_followed(tmp_path: Path, fleet: Fleet) -> None:
    with pair(tmp_path, fleet, "mysql-sqlite") as made:
        made.source.execute(f"{PARENT}; {CHILD}")
        made.run()
        made.source.execute(
            "ALTER TABLE c ADD FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE; DELETE FROM p WHERE id = 1"
        )
        assert SILENT not in made.run()
        assert made.there("c") == [(2, 2), (3, 3)]
