"""The demo's shop: its tables with their rows, and the traffic that goes on while it is copied."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from cdcflow.demo.cluster import Cluster
from cdcflow.demo.place import DATABASE

TABLES: Final = ("customers", "products", "orders", "order_items", "events")

# Shares of all rows; an order has 2.5 lines on average.
_SHARES: Final = {"customers": 0.08, "products": 0.02, "orders": 0.2, "events": 0.2}

_Connection = psycopg.Connection[Any]


def fill(source: Cluster, target: Cluster, rows: int) -> dict[str, int]:
    """Make the database on both servers and the shop, about `rows` rows, in the source's. Returns how many by table."""
    for cluster in (source, target):
        with psycopg.connect(cluster.url(), autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}".encode())
    script = files("cdcflow.demo").joinpath("shop.sql").read_text(encoding="utf-8")
    for name, share in _SHARES.items():
        script = script.replace(f":{name}", str(max(100, int(rows * share))))
    with psycopg.connect(source.url(DATABASE), autocommit=True) as connection:
        connection.execute(script.encode())
        return {table: count(connection, table) for table in TABLES}


def count(connection: _Connection, table: str) -> int:
    row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(slots=True)
class Traffic:
    """A thread that buys, pays, ships, returns, reprices and clicks, some hundreds of transactions a second.

    Counts are of committed transactions only.
    """

    source: Cluster
    per_second: int = 300
    transactions: int = 0
    changes: int = 0
    failure: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the shop; does nothing where it is open."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the open transaction. Raises what the thread failed with."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        dice = random.Random(7)  # noqa: S311 - a shop, not a secret
        try:
            with psycopg.connect(self.source.url(DATABASE), autocommit=True) as connection:
                customers, products = count(connection, "customers"), count(connection, "products")
                began, done = time.monotonic(), 0
                while not self._stop.is_set():
                    act = dice.choices(_ACTS, _WEIGHTS)[0]
                    with connection.transaction():
                        changes = act(connection, dice, customers, products)
                    self.transactions += 1
                    self.changes += changes
                    done += 1
                    ahead = began + done / self.per_second - time.monotonic()
                    if ahead > 0:
                        self._stop.wait(ahead)
        except BaseException as problem:
            self.failure = problem


def _buy(connection: _Connection, dice: random.Random, customers: int, products: int) -> int:
    row = connection.execute(
        "insert into orders (customer_id, note) values (%s, %s) returning id",
        (dice.randint(1, customers), dice.choice([None, "gift", "naïve 🐘"])),
    ).fetchone()
    assert row is not None
    lines = dice.randint(1, 4)
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into order_items (order_id, line, product_id, quantity, price) values (%s, %s, %s, %s, %s)",
            [(row[0], line, dice.randint(1, products), dice.randint(1, 5), line) for line in range(1, lines + 1)],
        )
    connection.execute(
        "update orders set total = (select sum(quantity * price) from order_items where order_id = %s) where id = %s",
        (row[0], row[0]),
    )
    return lines + 2


def _move_on(connection: _Connection, dice: random.Random, customers: int, products: int) -> int:
    """Half the orders' next step: a status, a delivery window."""
    return connection.execute(
        "update orders set status = %s, delivery = daterange(current_date, current_date + %s) where customer_id = %s",
        (dice.choice(["paid", "shipped", "returned"]), dice.randint(1, 9), dice.randint(1, customers)),
    ).rowcount


def _reprice(connection: _Connection, dice: random.Random, customers: int, products: int) -> int:
    """Products keep their long description: the log does not repeat it."""
    return connection.execute(
        "update products set price = price + 0.01, stock = stock - 1 where id between %s and %s",
        ((first := dice.randint(1, products)), first + 5),
    ).rowcount


def _cancel(connection: _Connection, dice: random.Random, customers: int, products: int) -> int:
    """An order goes, and its lines with it by the foreign key."""
    row = connection.execute("select id from orders where customer_id = %s limit 1", (dice.randint(1, customers),))
    found = row.fetchone()
    if found is None:
        return 0
    lines = connection.execute("delete from order_items where order_id = %s", found).rowcount
    return lines + connection.execute("delete from orders where id = %s", found).rowcount


def _renumber(connection: _Connection, dice: random.Random, customers: int, products: int) -> int:
    """A customer changes the address, which is unique, and back."""
    return connection.execute(
        "update customers set email = 'x' || email, credit = credit + 1 where id = %s", (dice.randint(1, customers),)
    ).rowcount


def _click(connection: _Connection, dice: random.Random, customers: int, products: int) -> int:
    connection.execute(
        "insert into events (kind, tags, payload) values (%s, %s, %s)",
        (
            dice.choice(["view", "search", "cart"]),
            ["app", f"v{dice.randint(1, 3)}", None],
            Jsonb({"customer": dice.randint(1, customers), "ms": dice.random()}),
        ),
    )
    return 1


def _sale(connection: _Connection, dice: random.Random, customers: int, products: int) -> int:
    """One large transaction: every second product."""
    return connection.execute(
        "update products set price = price * 1.01 where id %% 2 = %s", (dice.randint(0, 1),)
    ).rowcount


_ACTS: Final[list[Callable[[_Connection, random.Random, int, int], int]]] = [
    *(_buy, _move_on, _reprice, _cancel, _renumber, _click, _sale),
]
_WEIGHTS: Final = [25, 10, 10, 3, 5, 46, 0.2]
