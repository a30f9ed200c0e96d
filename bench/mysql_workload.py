"""The workload *drain* in MySQL: the same columns, the same backlog, and a fingerprint that both engines compute."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import psycopg
from pymysql.connections import Connection

from cdcflow.demo.mysqld import MysqlServer

DATABASE = "bench"

# A list of JSON stands for PostgreSQL's text[].
_TABLE = """
create table drain (
    id bigint not null primary key,
    quantity int not null,
    name varchar(200) not null,
    price decimal(12,2) not null,
    currency char(3) not null,
    note text,
    tags json not null,
    detail json not null,
    created_at timestamp(6) not null,
    updated_at datetime(6) not null
)
"""

# As `workload._ROW`: some 230 bytes. md5() is gone from MySQL 9.6.
_ROW = """
    n, n % 1000, concat('product ', n), n % 100000 / 100, 'EUR',
    if(n % 5 = 0, null, concat('note of ', left(sha2(n, 224), 32))),
    json_array('red', concat('tag ', n % 7), 'x,y'),
    json_object('sku', n, 'size', n % 10, 'label', concat('item ', n % 1000)),
    timestamp '2024-01-01 00:00:00' + interval n second, timestamp '2024-01-01 00:00:00' + interval n second
"""

# As in `workload`: each row once, in no order of the table.
_STEP = 1_000_003

# Numbers 1 to 1000, made anew in each session: they are no part of the log.
_NUMBERS = """
create temporary table numbers (n int primary key)
with digits as (
    select 0 as d union all select 1 union all select 2 union all select 3 union all select 4
    union all select 5 union all select 6 union all select 7 union all select 8 union all select 9
)
select one.d + ten.d * 10 + hundred.d * 100 + 1 as n from digits as one, digits as ten, digits as hundred
"""

_FINGERPRINT = """
select count(*), coalesce(sum(crc32(concat_ws('|', id, quantity, name, price, currency, coalesce(note, '~'), tags,
    detail, date_format(created_at, '%Y-%m-%d %H:%i:%s.%f'), date_format(updated_at, '%Y-%m-%d %H:%i:%s.%f')))), 0)
from
"""

# crc32() is PostgreSQL 18's.
_FINGERPRINT_POSTGRES = """
select count(*), coalesce(sum(crc32(convert_to(concat_ws('|', id, quantity, name, price, currency, coalesce(note, '~'),
    tags, detail, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
    to_char(updated_at, 'YYYY-MM-DD HH24:MI:SS.US')), 'UTF8'))), 0)::bigint
from
"""


def make_table(server: MysqlServer) -> None:
    """Make the database with the empty table."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"create database {DATABASE} character set utf8mb4")
        cursor.execute(f"use {DATABASE}")
        cursor.execute(_TABLE)


def backlog(server: MysqlServer, rows: int) -> int:
    """Insert `rows` rows (1,000 a transaction), update half and delete a tenth of them (100 a transaction).

    Returns how many row changes that were: 1.6 for each row.
    """
    if rows % 1000:
        raise ValueError("rows must be a multiple of 1,000")
    fill(server, rows)
    with _relaxed(server) as connection, connection.cursor() as cursor:
        for batch in range(rows // 200):
            cursor.execute(
                "update drain set quantity = quantity + 1, price = price + 1, note = %s, updated_at = now(6)"
                f" where id in ({_batch(batch, rows)})",
                [f"changed {batch}"],
            )
        for batch in range(rows // 1000):
            cursor.execute(f"delete from drain where id in ({_batch(batch, rows)})")
    return rows + rows // 2 + rows // 10


def fill(server: MysqlServer, rows: int) -> None:
    """Insert `rows` rows, 1,000 a transaction."""
    with _relaxed(server) as connection, connection.cursor() as cursor:
        cursor.execute(_NUMBERS)
        row = _ROW.replace("%", "%%")
        for batch in range(rows // 1000):
            cursor.execute(
                f"insert into drain select {row} from (select n + %s as n from numbers) as n", [batch * 1000]
            )


def fingerprint(server: MysqlServer, database: str = DATABASE) -> tuple[int, int]:
    """Return the table's row count and a sum over its rows' text, the same for equal contents in any order."""
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"{_FINGERPRINT} {database}.drain")
        row: Any = cursor.fetchone()
    return int(row[0]), int(row[1])


def fingerprint_postgres(connection: psycopg.Connection[Any], schema: str = DATABASE) -> tuple[int, int]:
    """Return the same of a copy in PostgreSQL."""
    row = connection.execute(f"{_FINGERPRINT_POSTGRES} {schema}.drain").fetchone()
    assert row is not None
    return row[0], row[1]


def _batch(batch: int, rows: int) -> str:
    return ", ".join(str(n * _STEP % rows + 1) for n in range(batch * 100, batch * 100 + 100))


class _relaxed:  # noqa: N801 - a context manager
    """A connection for the backlog, which is written with fewer flushes than what is measured afterwards."""

    def __init__(self, server: MysqlServer) -> None:
        self._connection = server.connect(DATABASE)

    def __enter__(self) -> Connection:
        self._set(0, 0)
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._set(1, 1)
        self._connection.close()

    def _set(self, log: int, redo: int) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"set global sync_binlog = {log}, global innodb_flush_log_at_trx_commit = {redo}")
