"""The shop in MySQL or MariaDB, as a source of the demo."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pymysql
from pymysql.connections import Connection
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import Cursor, SSCursor

from cdcflow.demo.mysqld import MysqlServer
from cdcflow.demo.shop import KEYS, TABLES, Record, script
from cdcflow.engines.mysql.errors import translate
from cdcflow.engines.mysql.names import ident


@dataclass(frozen=True, slots=True)
class MysqlShop:
    """The shop's tables in a database, which is what the pipeline calls a schema. See `Shop`."""

    server: MysqlServer
    schema: str

    def fill(self, rows: int) -> dict[str, int]:
        with closing(self.server.connect()) as connection:
            _run(connection, f"create database {ident(self.schema)} character set utf8mb4")
        with closing(self.server.connect(self.schema)) as connection:
            for statement in filter(str.strip, script("shop_mysql.sql", rows).split(";\n")):
                _run(connection, statement)
            for table in TABLES:
                _run(connection, f"analyze table {table}")
            return {table: _count(connection, table) for table in TABLES}

    def drop(self) -> None:
        """Drop the database."""
        with closing(self.server.connect()) as connection:
            _run(connection, f"drop database if exists {ident(self.schema)}")

    def exists(self) -> bool:
        """Return whether the server has a database of this name."""
        with closing(self.server.connect()) as connection:
            return bool(
                _all(connection, "select 1 from information_schema.schemata where schema_name = %s", self.schema)
            )

    @contextmanager
    def till(self) -> Iterator[MysqlTill]:
        with closing(self.server.connect(self.schema)) as connection:
            yield MysqlTill(connection, _count(connection, "customers"), _count(connection, "products"))

    def mark(self) -> int:
        with closing(self.server.connect(self.schema)) as connection:
            return _insert(connection, "insert into events (kind, session, payload) values ('mark', '', '{}')")

    def finished(self) -> tuple[int, int]:
        """See `Shop`."""
        with closing(self.server.connect()) as connection:
            ((indexes,),) = _all(
                connection,
                "select count(distinct table_name, index_name) from information_schema.statistics "
                "where table_schema = %s",
                self.schema,
            )
            ((keys,),) = _all(
                connection,
                "select count(*) from information_schema.referential_constraints where constraint_schema = %s",
                self.schema,
            )
            return int(indexes), int(keys)

    def records(self, table: str) -> Iterator[Record]:
        key = KEYS.get(table, "id")
        parts = key.count(",") + 1
        with closing(self.server.connect(self.schema)) as connection, _cursor(connection, SSCursor) as cursor:
            cursor.execute(f"select {key}, {table}.* from {table} order by {key}")
            printers = [_PRINTERS.get(int(column[1]), str) for column in cursor.description or ()][parts:]
            for row in cursor:
                yield (
                    row[:parts],
                    tuple(
                        None if value is None else text(value)
                        for text, value in zip(printers, row[parts:], strict=True)
                    ),
                )

    def moments(self) -> dict[int, float]:
        """See `Shop`: of each insert's beginning, which is a transaction of its own; commits leave no time in SQL."""
        with closing(self.server.connect(self.schema)) as connection:
            return {number: float(at) for number, at in _all(connection, "select id, unix_timestamp(at) from events")}


@dataclass(frozen=True, slots=True)
class MysqlTill:
    """See `Till`."""

    connection: Connection
    customers: int
    products: int

    def buy(self, dice: random.Random) -> int:
        with self._transaction():
            order = _insert(
                self.connection,
                "insert into orders (customer_id, note) values (%s, %s)",
                dice.randint(1, self.customers),
                dice.choice([None, "gift", "naïve 🐬"]),
            )
            lines = dice.randint(1, 4)
            for line in range(1, lines + 1):
                self._change(
                    "insert into order_items (order_id, line, product_id, quantity, price) values (%s, %s, %s, %s, %s)",
                    *(order, line, dice.randint(1, self.products), dice.randint(1, 5), line),
                )
            self._change(
                "update orders set total = (select sum(quantity * price) from order_items where order_id = %s) "
                "where id = %s",
                *(order, order),
            )
        return lines + 2

    def move_on(self, dice: random.Random) -> int:
        return self._change(
            "update orders set status = %s, delivery = current_date + interval %s day where customer_id = %s",
            *(dice.choice(["paid", "shipped", "returned"]), dice.randint(1, 9), dice.randint(1, self.customers)),
        )

    def reprice(self, dice: random.Random) -> int:
        first = dice.randint(1, self.products)
        return self._change(
            "update products set price = price + 0.01, stock = stock - 1 where id between %s and %s", first, first + 5
        )

    def cancel(self, dice: random.Random) -> int:
        with self._transaction():
            found = _all(
                self.connection,
                "select id from orders where customer_id = %s limit 1 for update",
                dice.randint(1, self.customers),
            )
            if not found:
                return 0
            lines = self._change("delete from order_items where order_id = %s", *found[0])
            return lines + self._change("delete from orders where id = %s", *found[0])

    def renumber(self, dice: random.Random) -> int:
        return self._change(
            "update customers set email = concat('x', email), credit = credit + 1 where id = %s",
            dice.randint(1, self.customers),
        )

    def click(self, dice: random.Random) -> int:
        return self._change(
            "insert into events (kind, session, channel, payload) values (%s, %s, %s, %s)",
            dice.choice(["view", "search", "cart"]),
            dice.randbytes(8),
            dice.choice(["web", "app,partner"]),
            json.dumps({"customer": dice.randint(1, self.customers), "ms": round(dice.random(), 3)}),
        )

    def sale(self, dice: random.Random) -> int:
        return self._change("update products set price = price * 1.01 where id %% 2 = %s", dice.randint(0, 1))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.begin()
        try:
            yield
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()

    def _change(self, statement: str, *values: object) -> int:
        return _run(self.connection, statement, *values)


@contextmanager
def _cursor(connection: Connection, kind: type[Cursor] = Cursor) -> Iterator[Cursor]:
    """Lend a cursor. Raises CdcflowError where the server refuses."""
    try:
        with connection.cursor(kind) as cursor:
            yield cursor
    except pymysql.Error as error:
        raise translate(error, side="source", at=f"{connection.host}:{connection.port}") from error


def _run(connection: Connection, statement: str, *values: object) -> int:
    with _cursor(connection) as cursor:
        # Without values a `%` in the statement is itself.
        return int(cursor.execute(statement, values or None))


def _insert(connection: Connection, statement: str, *values: object) -> int:
    with _cursor(connection) as cursor:
        cursor.execute(statement, values or None)
        return int(cursor.lastrowid or 0)


def _all(connection: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    with _cursor(connection) as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall())


def _count(connection: Connection, table: str) -> int:
    return int(_all(connection, f"select count(*) from {table}")[0][0])


def _moment(value: datetime) -> str:
    text = value.isoformat(sep=" ")
    return text.rstrip("0") if value.microsecond else text


def _instant(value: datetime) -> str:
    return _moment(value) + "+00"  # the session's zone is UTC


def _octets(value: str | bytes) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else value


# How PostgreSQL prints what the driver gives for a type of column; others are text or numbers already.
_PRINTERS: Final[dict[int, Callable[[Any], str]]] = {
    FIELD_TYPE.DATETIME: _moment,
    FIELD_TYPE.TIMESTAMP: _instant,
    FIELD_TYPE.STRING: _octets,
}
