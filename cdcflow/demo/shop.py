"""The demo's shop, whatever holds it: its tables, what a shop of any engine can do, and the traffic that goes on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final, Protocol

TABLES: Final = ("customers", "products", "orders", "order_items", "events")

# The tables' keys, in which both sides are read side by side; all of whole numbers.
KEYS: Final = {"order_items": "order_id, line"}

# Shares of all rows; an order has 2.5 lines on average.
_SHARES: Final = {"customers": 0.08, "products": 0.02, "orders": 0.2, "events": 0.2}

# What a customer or the shop does, and how often.
_ACTS: Final = ("buy", "move_on", "reprice", "cancel", "renumber", "click", "sale")
_WEIGHTS: Final = (25, 10, 10, 3, 5, 46, 0.2)

# A row's key, and the text of every column as PostgreSQL prints it; None is NULL.
Record = tuple[tuple[int, ...], tuple[str | None, ...]]


class Till(Protocol):
    """One connection that does the shop's transactions. Each method is one transaction and returns its row changes."""

    def buy(self, dice: random.Random) -> int:
        """An order with one to four lines."""

    def move_on(self, dice: random.Random) -> int:
        """A customer's orders' next step: a status, a delivery."""

    def reprice(self, dice: random.Random) -> int:
        """Products keep their long description: PostgreSQL's log does not repeat it."""

    def cancel(self, dice: random.Random) -> int:
        """An order goes, and its lines with it."""

    def renumber(self, dice: random.Random) -> int:
        """A customer changes the address, which is unique."""

    def click(self, dice: random.Random) -> int:
        """An event, with a document."""

    def sale(self, dice: random.Random) -> int:
        """One large transaction: every second product."""


class Shop(Protocol):
    """A database that holds the shop."""

    @property
    def schema(self) -> str:
        """What the pipeline calls the place of the tables, at both ends."""

    def fill(self, rows: int) -> dict[str, int]:
        """Make the database and the shop, about `rows` rows. Returns how many by table."""

    def till(self) -> AbstractContextManager[Till]:
        """Open a connection for traffic."""

    def mark(self) -> int:
        """Insert an event of its own, and return its id: where that is visible, all before it is."""

    def finished(self) -> tuple[int, int]:
        """Return how many indexes and how many foreign keys the tables have."""

    def records(self, table: str) -> Iterator[Record]:
        """Read a table in the order of its key."""

    def moments(self) -> dict[int, float]:
        """Return when each event was committed (unix time), as near as the server can tell."""


def script(name: str, rows: int) -> str:
    """Return one of the SQL files with the tables' sizes filled in."""
    text = files("cdcflow.demo").joinpath(name).read_text(encoding="utf-8")
    sizes = {table: max(100, int(rows * share)) for table, share in _SHARES.items()}
    for table, size in {**sizes, "largest": max(sizes.values())}.items():
        text = text.replace(f":{table}", str(size))
    return text


@dataclass(slots=True)
class Traffic:
    """A thread that buys, pays, ships, returns, reprices and clicks, some hundreds of transactions a second.

    Counts are of committed transactions only.
    """

    shop: Shop
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
            with self.shop.till() as till:
                began, done = time.monotonic(), 0
                while not self._stop.is_set():
                    act = dice.choices(_ACTS, _WEIGHTS)[0]
                    changes: int = getattr(till, act)(dice)
                    self.transactions += 1
                    self.changes += changes
                    done += 1
                    ahead = began + done / self.per_second - time.monotonic()
                    if ahead > 0:
                        self._stop.wait(ahead)
        except BaseException as problem:
            self.failure = problem
