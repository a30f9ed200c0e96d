"""A pipeline from the first copy to following, through the command: copied, followed, caught up, stopped, gone on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]

ORDERS = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, total numeric(12,2), note text);
INSERT INTO orders SELECT n, 'customer ' || n % 100, n * 1.25, repeat('x', (n % 50)::int)
FROM generate_series(1, 5000) AS n;
"""


def test_rows_that_were_there_are_copied_and_later_changes_follow(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.query("SELECT count(*), sum(total) FROM orders") == source_db.query(
        "SELECT count(*), sum(total) FROM orders"
    )
    source_db.execute("UPDATE orders SET note = 'changed' WHERE id % 7 = 0")
    source_db.execute("DELETE FROM orders WHERE id % 11 = 0")
    source_db.execute("INSERT INTO orders VALUES (900001, 'new', 1, NULL)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.query("SELECT * FROM orders ORDER BY id") == source_db.query("SELECT * FROM orders ORDER BY id")
