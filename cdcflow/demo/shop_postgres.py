"""The shop in PostgreSQL: the demo's own source, and every demo's target."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from cdcflow.demo.cluster import Cluster
from cdcflow.demo.shop import KEYS, TABLES, Record, script
from cdcflow.engines.postgres.names import ident

_Connection = psycopg.Connection[Any]

# How texts are printed that both sides are compared by.
_CANONICAL: Final = "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=1"


def make_database(cluster: Cluster, database: str) -> None:
    """Make an empty database."""
    with psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute(f"create database {database}".encode())


@dataclass(frozen=True, slots=True)
class PostgresShop:
    """The shop's tables in one schema of one database. See `Shop`."""

    cluster: Cluster
    database: str
    schema: str = "public"

    def fill(self, rows: int) -> dict[str, int]:
        make_database(self.cluster, self.database)
        with self._connect() as connection:
            connection.execute(script("shop_postgres.sql", rows).encode())
            return {table: _count(connection, table) for table in TABLES}

    @contextmanager
    def till(self) -> Iterator[PostgresTill]:
        with self._connect() as connection:
            yield PostgresTill(connection, _count(connection, "customers"), _count(connection, "products"))

    def mark(self) -> int:
        with self._connect() as connection:
            return _one(connection, "insert into events (kind, payload) values ('mark', '{}') returning id")

    def has_event(self, number: int) -> bool:
        """Return whether the event of a mark is there."""
        with self._connect() as connection:
            return bool(_one(connection, "select count(*) from events where id = %s", number))

    def finished(self) -> tuple[int, int]:
        with self._connect() as connection:
            return (
                _one(connection, "select count(*) from pg_indexes where schemaname = %s", self.schema),
                _one(
                    connection,
                    "select count(*) from pg_constraint where contype = 'f' and convalidated"
                    " and connamespace = (select oid from pg_namespace where nspname = %s)",
                    self.schema,
                ),
            )

    def records(self, table: str) -> Iterator[Record]:
        key = KEYS.get(table, "id")
        parts = key.count(",") + 1
        with self._connect(autocommit=False) as connection:
            columns = ", ".join(f"{ident(name)}::text" for name in _columns(connection, self.schema, table))
            ordered = ", ".join(f"{table}.{name}" for name in key.split(", "))  # a bare name is that of a text
            with connection.cursor(name=f"compare_{table}") as cursor:
                cursor.itersize = 20_000
                cursor.execute(f"select {key}, {columns} from {table} order by {ordered}".encode())
                for row in cursor:
                    yield row[:parts], row[parts:]

    def moments(self) -> dict[int, float]:
        """See `Shop`: of each commit itself, as `track_commit_timestamp` keeps it."""
        query = (
            b"select id, extract(epoch from pg_xact_commit_timestamp(xmin))::float8 from events "
            b"where pg_xact_commit_timestamp(xmin) is not null"
        )
        with self._connect() as connection:
            return dict(connection.execute(query).fetchall())

    @contextmanager
    def _connect(self, *, autocommit: bool = True) -> Iterator[_Connection]:
        path = ident(self.schema).replace("\\", "\\\\").replace(" ", "\\ ")  # as libpq takes options apart
        options = f"{_CANONICAL} -c search_path={path}"
        with psycopg.connect(
            self.cluster.url(self.database), autocommit=autocommit, options=options, client_encoding="utf8"
        ) as connection:
            yield connection


@dataclass(frozen=True, slots=True)
class PostgresTill:
    """See `Till`."""

    connection: _Connection
    customers: int
    products: int

    def buy(self, dice: random.Random) -> int:
        with self.connection.transaction():
            order = _one(
                self.connection,
                "insert into orders (customer_id, note) values (%s, %s) returning id",
                dice.randint(1, self.customers),
                dice.choice([None, "gift", "naïve 🐘"]),
            )
            lines = dice.randint(1, 4)
            with self.connection.cursor() as cursor:
                cursor.executemany(
                    "insert into order_items (order_id, line, product_id, quantity, price) values (%s, %s, %s, %s, %s)",
                    [
                        (order, line, dice.randint(1, self.products), dice.randint(1, 5), line)
                        for line in range(1, lines + 1)
                    ],
                )
            self.connection.execute(
                "update orders set total = (select sum(quantity * price) from order_items where order_id = %s) "
                "where id = %s",
                (order, order),
            )
        return lines + 2

    def move_on(self, dice: random.Random) -> int:
        return self._change(
            "update orders set status = %s, delivery = daterange(current_date, current_date + %s) "
            "where customer_id = %s",
            *(dice.choice(["paid", "shipped", "returned"]), dice.randint(1, 9), dice.randint(1, self.customers)),
        )

    def reprice(self, dice: random.Random) -> int:
        first = dice.randint(1, self.products)
        return self._change(
            "update products set price = price + 0.01, stock = stock - 1 where id between %s and %s", first, first + 5
        )

    def cancel(self, dice: random.Random) -> int:
        with self.connection.transaction():
            found = self.connection.execute(
                "select id from orders where customer_id = %s limit 1", (dice.randint(1, self.customers),)
            ).fetchone()
            if found is None:
                return 0
            lines = self._change("delete from order_items where order_id = %s", *found)
            return lines + self._change("delete from orders where id = %s", *found)

    def renumber(self, dice: random.Random) -> int:
        return self._change(
            "update customers set email = 'x' || email, credit = credit + 1 where id = %s",
            dice.randint(1, self.customers),
        )

    def click(self, dice: random.Random) -> int:
        return self._change(
            "insert into events (kind, tags, payload) values (%s, %s, %s)",
            dice.choice(["view", "search", "cart"]),
            ["app", f"v{dice.randint(1, 3)}", None],
            Jsonb({"customer": dice.randint(1, self.customers), "ms": dice.random()}),
        )

    def sale(self, dice: random.Random) -> int:
        return self._change("update products set price = price * 1.01 where id %% 2 = %s", dice.randint(0, 1))

    def _change(self, statement: str, *values: object) -> int:
        return self.connection.execute(statement.encode(), values).rowcount


def _one(connection: _Connection, query: str, *values: object) -> int:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return int(row[0])


def _count(connection: _Connection, table: str) -> int:
    return _one(connection, f"select count(*) from {table}")


def _columns(connection: _Connection, schema: str, table: str) -> list[str]:
    found = connection.execute(
        b"select column_name from information_schema.columns where table_schema = %s and table_name = %s "
        b"order by ordinal_position",
        (schema, table),
    )
    return [row[0] for row in found]
