"""A decimal column that gets another number of digits, in a SQLite file: old rows have them, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.mysql_pairs import pair
from tests.servers.fleet import Fleet

VALUES = ("1.50", "-0.004", "0", "12345.678", "NULL", "-0.45")
SCALES = ((3, 12, 4), (4, 12, 1))  # of two tables: before, precision, after


@pytest.mark.parametrize("engines", ["mysql-sqlite", "mariadb-sqlite", "postgres-sqlite"])
def test_old_rows_have_the_digits_of_the_new_scale(tmp_path: Path, fleet: Fleet, engines: str) -> None:
    with pair(tmp_path, fleet, engines) as made:
        names = [f"t{after}" for _, _, after in SCALES]
        rows = ", ".join(f"({key}, {value}, {value})" for key, value in enumerate(VALUES))
        for name, (before, precision, _) in zip(names, SCALES, strict=True):
            kind = f"decimal({precision},{before})"
            made.source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, d {kind}, e {kind}, n int)")
            made.source.execute(f"INSERT INTO {name} (id, d, e) VALUES {rows}")
        made.run()
        word = "ALTER COLUMN d TYPE" if engines.startswith("postgres") else "MODIFY d"
        for name, (_, precision, after) in zip(names, SCALES, strict=True):
            more = ", DROP COLUMN n" if name == names[0] else ""
            made.source.execute(f"ALTER TABLE {name} {word} decimal({precision},{after}){more}")
            made.source.execute(f"INSERT INTO {name} (id, d, e) VALUES (100, 7.5, 7.5)")
        made.run()
        made.run()  # what is copied again comes behind what is followed
        for name in names:
            here = made.source.query(f"SELECT id, d, e FROM {name} ORDER BY id")
            assert [(key, *(None if v is None else format(v, "f") for v in row)) for key, *row in here] == made.there(
                name, "id, d, e"
            )
