"""The workloads: the table of ten columns and the backlog called *drain*, and pgbench's own called *tpcb*."""

from __future__ import annotations

from typing import Any

import psycopg

DRAIN_TABLE = """
create table drain (
    id bigint primary key,
    quantity int not null,
    name text not null,
    price numeric(12,2) not null,
    currency char(3) not null,
    note text,
    tags text[] not null,
    detail jsonb not null,
    created_at timestamptz not null,
    updated_at timestamp not null
)
"""

# Ten columns, some 230 bytes a row. The same expression makes a row for an insert and for a bulk load.
_ROW = """
    n, (n % 1000)::int, 'product ' || n, (n % 100000) / 100.0, 'EUR',
    case when n % 5 = 0 then null else 'note of ' || md5(n::text) end,
    array['red', 'tag ' || n % 7, 'x,y'],
    jsonb_build_object('sku', n, 'size', n % 10, 'label', 'item ' || n % 1000),
    timestamptz '2024-01-01 00:00:00+00' + n * interval '1 second',
    timestamp '2024-01-01 00:00:00' + n * interval '1 second'
"""

# A prime larger than any scale used, so that n * STEP % rows visits each row once, in no order of the table.
_STEP = 1_000_003

_INSERTS = f"""
do $$ begin
    for batch in 0 .. @rows / 1000 - 1 loop
        insert into drain select {_ROW} from generate_series(batch * 1000 + 1, batch * 1000 + 1000) n;
        commit;
    end loop;
end $$
"""

_UPDATES = f"""
do $$ begin
    for batch in 0 .. @rows / 200 - 1 loop
        update drain set quantity = quantity + 1, price = price + 1, note = 'changed ' || batch, updated_at = now()
        where id = any (select (n::bigint * {_STEP}) % @rows + 1
                        from generate_series(batch * 100, batch * 100 + 99) n);
        commit;
    end loop;
end $$
"""

_DELETES = f"""
do $$ begin
    for batch in 0 .. @rows / 1000 - 1 loop
        delete from drain
        where id = any (select (n::bigint * {_STEP}) % @rows + 1
                        from generate_series(batch * 100, batch * 100 + 99) n);
        commit;
    end loop;
end $$
"""


def drain_backlog(connection: psycopg.Connection[Any], rows: int) -> int:
    """Insert `rows` rows (1,000 a transaction), update half and delete a tenth of them (100 a transaction).

    Returns how many row changes that were: 1.6 for each row.
    """
    if rows % 1000:
        raise ValueError("rows must be a multiple of 1,000")
    connection.execute("set synchronous_commit = off")
    for statement in (_INSERTS, _UPDATES, _DELETES):
        connection.execute(statement.replace("@rows", str(rows)))
    connection.execute("reset synchronous_commit")
    return rows + rows // 2 + rows // 10


def fill(connection: psycopg.Connection[Any], rows: int) -> None:
    """Insert `rows` rows into the drain table in one transaction."""
    connection.execute(f"insert into drain select {_ROW} from generate_series(1, {rows}) n")


def fingerprint(connection: psycopg.Connection[Any], table: str) -> tuple[int, str]:
    """Return a table's row count and a sum over its rows' text, the same for equal contents in any order."""
    row = connection.execute(
        f"select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text from {table} t"
    ).fetchone()
    assert row is not None
    return row[0], row[1]
