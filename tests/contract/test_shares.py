"""What every target that can follow a bus promises of shares: rows and places commit together, under one claim."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from cdcflow import registry
from cdcflow.errors import Fenced
from cdcflow.model.change import ChangeBatch, Rows, Truncate
from cdcflow.model.context import Context
from cdcflow.model.frame import RowBatch, image
from cdcflow.model.ports import Target
from cdcflow.model.position import Share, Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType
from cdcflow.state import SqlStore, open_store
from cdcflow.targets.mysql import barriers
from tests.integration.target_shapes import route, table

OWNER = {"host": "here", "process": "1"}
ME = "shop_warehouse"


@dataclass
class Home:
    """One database that is a target, and how a test looks into it."""

    url: str
    schema: str

    def route(self) -> Route:
        columns = (
            Column("id", NativeType("bigint"), Logical.INT8, nullable=False, number=1),
            Column("v", NativeType("text"), Logical.TEXT, number=2),
        )
        return route(table(*columns), to=f"{self.schema}.t")

    def target(self) -> Target:
        scheme = self.url.partition("://")[0]
        connector = registry.connector("target", scheme)
        assert connector is not None
        return cast(
            "Target", connector.open(connector.Config(url=self.url), Context(ME, 256_000_000, 50_000, 64_000_000))
        )

    def found(self) -> list[tuple[Any, ...]]:
        name = "t" if self.url.startswith("sqlite") else f"{self.schema}.t"
        store = open_store(self.url)
        try:
            with store._engine.begin() as connection:
                return [tuple(row) for row in connection.execute(sa.text(f"SELECT id, v FROM {name} ORDER BY id"))]
        finally:
            store.close()


@pytest.fixture(params=["postgresql", "mysql", "mariadb", "sqlite"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    if request.param == "sqlite":
        yield Home(f"sqlite:///{tmp_path}/copy.db", "public")
    elif request.param == "postgresql":
        yield Home(str(request.getfixturevalue("target_db").url), "public")
    else:
        database = request.getfixturevalue(f"{request.param}_target_db")
        database.execute("DROP DATABASE IF EXISTS cdcflow")
        yield Home(str(database.url), database.name)
        database.execute("DROP DATABASE IF EXISTS cdcflow")


@pytest.fixture
def store(home: Home) -> Iterator[SqlStore]:
    found = open_store(home.url)
    found.migrate()
    yield found
    found.close()


class Instance:
    """One member of the group: it holds claims, and writes what it has read."""

    def __init__(self, home: Home, store: SqlStore) -> None:
        self.route, self.target, self.store = home.route(), home.target(), store
        self.target.begin(ME, store.join(ME, OWNER))
        self.held: dict[str, Share] = {}

    def claim(self, *names: str) -> dict[str, Share]:
        found = self.store.claim(ME, names, OWNER)
        self.held.update(found)
        return found

    def write(self, share: str, place: int, *rows: tuple[int, str], large: bool = False) -> None:
        images = [image([str(number).encode(), value.encode()]) for number, value in rows]
        frame = RowBatch(
            self.route,
            ("id", "v"),
            b"I" * len(rows),
            b"".join(images),
            b"".join(struct.pack("=i", len(each)) for each in images),
            b"",
            bytes(4 * len(rows)),
            idempotent=True,
        )
        ahead = {**self.held, share: Share(self.held[share].epoch, place)}
        batch = ChangeBatch(
            [Rows({0: frame}, bytes(4 * len(rows)))], Shares(ahead), 1, rows=5000 if large else len(rows)
        )
        self.target.apply(batch)
        self.held = ahead


@pytest.fixture
def instance(home: Home, store: SqlStore) -> Iterator[Any]:
    made: list[Instance] = []

    def another() -> Instance:
        made.append(Instance(home, store))
        return made[-1]

    yield another
    for each in made:
        each.target.close()


LARGE = pytest.mark.parametrize("large", [False, True], ids=["small", "large"])


@LARGE
def test_rows_and_place_commit_together(home: Home, store: SqlStore, instance: Any, large: bool) -> None:
    one = instance()
    assert one.claim("t/0", "t/1") == {"t/0": Share(1, 0), "t/1": Share(1, 0)}
    one.target.create(one.route)
    one.write("t/0", 7, (1, "a"), (2, "b"), large=large)
    one.write("t/1", 3, (3, "c"), large=large)
    one.write("t/0", 8, (1, "again"), large=large)
    assert home.found() == [(1, "again"), (2, "b"), (3, "c")]
    assert store.shares(ME) == {"t/0": Share(1, 8), "t/1": Share(1, 3)}


@LARGE
def test_who_lost_a_share_cannot_write_a_row_of_it(home: Home, store: SqlStore, instance: Any, large: bool) -> None:
    one, two = instance(), instance()
    one.claim("t/0", "t/1")
    one.target.create(one.route)
    one.write("t/0", 5, (1, "first"))
    assert two.claim("t/0") == {"t/0": Share(2, 5)}
    with pytest.raises(Fenced):
        one.write("t/0", 6, (1, "of a zombie"), large=large)
    assert home.found() == [(1, "first")]
    two.write("t/0", 6, (1, "second"), large=large)
    del one.held["t/0"]
    one.target.begin(ME, 1)
    one.write("t/1", 1, (9, "still mine"), large=large)
    assert home.found() == [(1, "second"), (9, "still mine")]
    assert store.shares(ME) == {"t/0": Share(2, 6), "t/1": Share(1, 1)}


def test_a_place_moves_without_rows(store: SqlStore, instance: Any) -> None:
    one = instance()
    one.claim("t/0", "t/1")
    one.target.heartbeat(Shares({"t/0": Share(1, 4), "t/1": Share(1, 0)}))
    one.target.heartbeat(Shares({"t/0": Share(1, 4), "t/1": Share(1, 0)}))
    assert store.shares(ME) == {"t/0": Share(1, 4), "t/1": Share(1, 0)}
    instance().claim("t/0")
    with pytest.raises(Fenced):
        one.target.heartbeat(Shares({"t/0": Share(1, 5), "t/1": Share(1, 0)}))


def test_shares_that_come_to_a_meeting_are_seen_by_all_until_it_is_over(store: SqlStore, home: Home) -> None:
    other = open_store(home.url)
    store.join(ME, OWNER)
    store.arrive(ME, "m", "t/1", 8)
    store.arrive(ME, "m", "t/0", 5)
    store.arrive(ME, "m", "t/0", 5)
    store.arrive(ME, "n", "t/0", 9)
    assert {(each.share, each.place) for each in other.arrived(ME, "m")} == {("t/0", 5), ("t/1", 8)}
    other.part(ME, "m")
    assert store.arrived(ME, "m") == []
    assert len(store.arrived(ME, "n")) == 1
    other.close()


def test_teardown_forgets_shares(store: SqlStore) -> None:
    store.join(ME, OWNER)
    store.claim(ME, ["t/0"], OWNER)
    store.arrive(ME, "m", "t/0", 5)
    store.forget(ME)
    assert store.shares(ME) == {}
    assert store.arrived(ME, "m") == []
    assert store.checkpoint(ME) is None


def test_what_is_said_to_be_durable_is_on_the_disk_also_where_no_share_has_moved_since(target_db: Any) -> None:
    home = Home(str(target_db.url), "public")
    store = open_store(home.url)
    store.migrate()
    one = Instance(home, store)
    try:
        one.claim("t/0")
        one.target.create(one.route)
        for place in range(1, 6):
            one.write("t/0", place, (place, "a"))
            written = target_db.query("SELECT pg_current_wal_insert_lsn()::text")[0][0]
            durable = one.target.flush(force=True)
            query = f"SELECT pg_current_wal_flush_lsn() >= '{written}'"
            assert durable == Shares({"t/0": Share(1, place)})
            assert target_db.query(query) == [(True,)]
    finally:
        one.target.close()
        store.close()


def test_who_lost_a_share_cannot_empty_a_table(
    home: Home, store: SqlStore, instance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barriers, "_DELETED_ROWS", -1)  # as if the table were large
    one = instance()
    one.claim("t/0")
    one.target.create(one.route)
    one.write("t/0", 7, (1, "a"), (2, "b"))
    store.claim(ME, ["t/0"], OWNER)
    emptied = Truncate((one.route,), cascade=False, restart_identity=False)
    with pytest.raises(Fenced):
        one.target.apply(ChangeBatch([emptied], Shares({"t/0": Share(1, 8)}), 1))
    assert home.found() == [(1, "a"), (2, "b")]
    two = instance()
    two.claim("t/0")
    two.target.apply(ChangeBatch([emptied], Shares({"t/0": Share(3, 8)}), 1))
    assert home.found() == []
