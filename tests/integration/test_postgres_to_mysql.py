"""PostgreSQL to MySQL and MariaDB through the command: copied, followed, altered, gone on after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdcflow import Pipeline
from tests.conftest import MakeMysqlDatabase
from tests.servers.database import Database
from tests.servers.fleet import Fleet

MADE = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, total numeric(12,2), paid boolean, at timestamptz,
                     data jsonb, raw bytea);
INSERT INTO orders
SELECT n, 'customer ' || n % 100, n * 1.25, n % 2 = 0, '2024-01-01'::timestamptz + n * '1 min'::interval,
       jsonb_build_object('n', n), decode(lpad(to_hex(n), 8, '0'), 'hex')
FROM generate_series(1, 3000) n;
"""


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_a_table_is_copied_followed_and_altered(
    engine: str, source_db: Database, fleet: Fleet, new_mysql_database: MakeMysqlDatabase, tmp_path: Path
) -> None:
    server = fleet.mysql(role="target") if engine == "mysql" else fleet.mariadb("target")
    target = new_mysql_database(server, "public")
    source_db.execute(MADE)
    config = tmp_path / "cdcflow.yaml"
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"version: 1\ntables:\n  - match: public.orders\n    to: {target.name}.orders\n")
    config.write_text(
        f"pipeline: p_{target.name}\nsource:\n  url: {source_db.url}\ntarget:\n  url: {target.url}\nrules: rules.yaml\n"
    )
    run(config)
    assert target.value("SELECT count(*) FROM orders") == 3000
    source_db.execute("UPDATE orders SET customer = 'x' WHERE id % 7 = 0; DELETE FROM orders WHERE id % 11 = 0")
    source_db.execute("ALTER TABLE orders ADD COLUMN more int; ALTER TABLE orders RENAME COLUMN customer TO who")
    source_db.execute("INSERT INTO orders (id, who, more) VALUES (9001, 'new', 5)")
    run(config)
    ((count, total, names),) = source_db.query(
        "SELECT count(*), sum(total), count(*) FILTER (WHERE who = 'x') FROM orders"
    )
    assert target.query("SELECT count(*), sum(total), sum(who = 'x') FROM orders") == [(count, total, names)]
    assert target.value("SELECT more FROM orders WHERE id = 9001") == 5
    assert target.value("SELECT hex(raw) FROM orders WHERE id = 3") == "00000003"
    source_db.execute("TRUNCATE orders")
    source_db.execute("INSERT INTO orders (id, who) VALUES (1, 'again')")
    run(config)
    assert target.query("SELECT id, who FROM orders") == [(1, "again")]


def run(config: Path) -> Any:
    """Run until nothing is left to do."""
    with Pipeline.from_file(config) as pipeline:
        return pipeline.run(until_caught_up=True)
