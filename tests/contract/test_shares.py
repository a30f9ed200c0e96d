"""What every target that can follow a bus promises of shares: rows and places commit together, under one claim."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from cdcflow import registry
from cdcflow.errors import CdcflowError, Fenced, TargetUnavailable
from cdcflow.model.change import ChangeBatch, Rows, Truncate
from cdcflow.model.context import Context
from cdcflow.model.frame import RowBatch, image
from cdcflow.model.ports import Target
from cdcflow.model.position import Share, Shares
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType
from cdcflow.state import SqlStore, open_store, sharing
from cdcflow.targets.mysql import barriers
from cdcflow.targets.postgres import session
from tests.integration.target_shapes import route, table
from tests.servers.waiting import until

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


def placed(shares: Mapping[str, Share]) -> dict[str, int]:
    """Return the places alone: where epochs begin is the clock's word."""
    return {name: share.place for name, share in shares.items()}


def at(one: Instance, *places: int) -> Shares:
    """Return the position of an instance whose shares are there."""
    return Shares({f"t/{number}": replace(one.held[f"t/{number}"], place=place) for number, place in enumerate(places)})


LARGE = pytest.mark.parametrize("large", [False, True], ids=["small", "large"])


@LARGE
def test_rows_and_place_commit_together(home: Home, store: SqlStore, instance: Any, large: bool) -> None:
    one = instance()
    assert placed(one.claim("t/0", "t/1")) == {"t/0": 0, "t/1": 0}
    one.target.create(one.route)
    one.write("t/0", 7, (1, "a"), (2, "b"), large=large)
    one.write("t/1", 3, (3, "c"), large=large)
    one.write("t/0", 8, (1, "again"), large=large)
    assert home.found() == [(1, "again"), (2, "b"), (3, "c")]
    assert placed(store.shares(ME)) == {"t/0": 8, "t/1": 3}


@LARGE
def test_who_lost_a_share_cannot_write_a_row_of_it(home: Home, store: SqlStore, instance: Any, large: bool) -> None:
    one, two = instance(), instance()
    one.claim("t/0", "t/1")
    one.target.create(one.route)
    one.write("t/0", 5, (1, "first"))
    epoch = one.held["t/0"].epoch
    assert two.claim("t/0") == {"t/0": Share(epoch + 1, 5)}
    with pytest.raises(Fenced):
        one.write("t/0", 6, (1, "of a zombie"), large=large)
    assert home.found() == [(1, "first")]
    two.write("t/0", 6, (1, "second"), large=large)
    del one.held["t/0"]
    one.target.begin(ME, store.join(ME, OWNER))
    one.write("t/1", 1, (9, "still mine"), large=large)
    assert home.found() == [(1, "second"), (9, "still mine")]
    assert placed(store.shares(ME)) == {"t/0": 6, "t/1": 1}


def test_a_place_moves_without_rows(store: SqlStore, instance: Any) -> None:
    one = instance()
    one.claim("t/0", "t/1")
    one.target.heartbeat(at(one, 4, 0))
    one.target.heartbeat(at(one, 4, 0))
    assert placed(store.shares(ME)) == {"t/0": 4, "t/1": 0}
    instance().claim("t/0")
    with pytest.raises(Fenced):
        one.target.heartbeat(at(one, 5, 0))


@LARGE
def test_a_place_never_goes_back(home: Home, store: SqlStore, instance: Any, large: bool) -> None:
    one = instance()
    one.claim("t/0", "t/1")
    one.target.create(one.route)
    one.write("t/0", 7, (1, "a"))
    with pytest.raises(Fenced):
        one.write("t/0", 6, (1, "of earlier"), large=large)
    one.target.begin(ME, store.join(ME, OWNER))
    with pytest.raises(Fenced):
        one.target.heartbeat(at(one, 3, 1))
    assert home.found() == [(1, "a")]
    assert placed(store.shares(ME)) == {"t/0": 7, "t/1": 0}


def test_who_slept_over_a_teardown_cannot_write(home: Home, store: SqlStore, instance: Any) -> None:
    sleeper = instance()
    sleeper.claim("t/0")
    sleeper.target.create(sleeper.route)
    sleeper.write("t/0", 5, (1, "a"))
    store.forget(ME)
    other = instance()
    assert placed(other.claim("t/0")) == {"t/0": 0}
    with pytest.raises(Fenced):
        sleeper.write("t/0", 6, (2, "from before"))
    assert home.found() == [(1, "a")]
    assert placed(store.shares(ME)) == {"t/0": 0}


def test_a_share_that_is_called_otherwise_begins_anew(store: SqlStore, instance: Any) -> None:
    one = instance()
    one.claim("t/0", "t/1")
    one.target.heartbeat(at(one, 4, 9))

    def identify(**named: str) -> None:
        store.identify(
            ME, {f"t/{number[1:]}": replace(one.held[f"t/{number[1:]}"], identity=named[number]) for number in named}
        )

    identify(p0="first", p1="first")
    assert placed(store.shares(ME)) == {"t/0": 4, "t/1": 9}
    assert placed(one.claim("t/0", "t/1")) == {"t/0": 4, "t/1": 9}
    assert {name: share.identity for name, share in one.held.items()} == {"t/0": "first", "t/1": "first"}
    identify(p0="first", p1="second")
    assert placed(store.shares(ME)) == {"t/0": 4, "t/1": 0}
    assert {name: share.identity for name, share in store.shares(ME).items()} == {"t/0": "first", "t/1": "second"}
    instance().claim("t/0")
    identify(p0="third")  # somebody else's by now
    assert store.shares(ME)["t/0"].identity == "first"


def test_shares_that_are_on_record_are_not_begun_once_more(store: SqlStore, instance: Any) -> None:
    store.join(ME, OWNER)
    store.begin(ME, {"t/0": 4, "t/1": 0})
    store.begin(ME, {"t/0": 7, "t/2": 8})
    assert placed(instance().claim("t/0", "t/1", "t/2", "t/3")) == {"t/0": 4, "t/1": 0, "t/2": 8, "t/3": 0}


def test_shares_that_come_to_a_meeting_are_seen_by_all_until_it_is_over(store: SqlStore, home: Home) -> None:
    other = open_store(home.url)
    store.join(ME, OWNER)
    store.arrive(ME, "m", "t/1", 8)
    store.arrive(ME, "m", "t/0", 5)
    store.arrive(ME, "m", "t/0", 5)
    store.arrive(ME, "n", "t/0", 9)
    assert {(each.share, each.place) for each in other.arrived(ME, "m")} == {("t/0", 5), ("t/1", 8)}
    other.part(ME, "m")
    assert [each.over for each in store.arrived(ME, "m")] == [True]
    assert [each.over for each in store.arrived(ME, "n")] == [False]
    store.arrive(ME, "m", "t/0", 20)  # a mark that is read again
    assert {(each.share, each.over) for each in other.arrived(ME, "m")} == {("t/0", False), ("", True)}
    other.close()


def test_of_meetings_that_are_over_the_newest_are_remembered(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST_OVER", 2)
    clock = itertools.count(1)
    monkeypatch.setattr(sharing, "_first_epoch", lambda _: next(clock))
    store.arrive(ME, "open", "t/0", 5)
    for name in ("a", "b", "c", "d"):
        store.arrive(ME, name, "t/0", 5)
        store.part(ME, name)
    assert [len(store.arrived(ME, name)) for name in ("a", "b", "c", "d", "open")] == [0, 0, 1, 1, 1]


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
            assert isinstance(durable, Shares)
            assert placed(durable.shares) == {"t/0": place}
            assert target_db.query(query) == [(True,)]
    finally:
        one.target.close()
        store.close()


def test_who_is_stopped_in_a_transaction_holds_the_others_up_for_a_while_only(
    target_db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "BESIDE_OTHERS_SECONDS", 5)
    home = Home(str(target_db.url), "public")
    store = open_store(home.url)
    store.migrate()
    one, two = Instance(home, store), Instance(home, store)
    try:
        one.claim("t/0")
        one.target.create(one.route)
        one.write("t/0", 1, (1, "a"))
        asleep = one.target._applier._session  # type: ignore[attr-defined]
        asleep.run("BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        two.claim("t/0")
        # The server ends that transaction, or the lock is asked for again.
        until(lambda: two.write("t/0", 2, (1, "b")) is None, what="the other has written")
        assert home.found() == [(1, "b")]
        with pytest.raises(CdcflowError):
            one.write("t/0", 3, (1, "c"))
        assert home.found() == [(1, "b")]
        # Somebody else's transaction is nobody's to end: it is told.
        with target_db.connect(autocommit=False) as other:
            other.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(TargetUnavailable, match="a lock could not be had") as told:
                two.write("t/0", 3, (1, "d"))
            assert "pg_stat_activity" in told.value.do
        until(lambda: two.write("t/0", 3, (1, "d")) is None, what="it is written later")
        assert home.found() == [(1, "d")]
    finally:
        for each in (one, two):
            each.target.close()
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
        one.target.apply(ChangeBatch([emptied], Shares({"t/0": replace(one.held["t/0"], place=8)}), 1))
    assert home.found() == [(1, "a"), (2, "b")]
    two = instance()
    two.claim("t/0")
    two.target.apply(ChangeBatch([emptied], Shares({"t/0": replace(two.held["t/0"], place=8)}), 1))
    assert home.found() == []


def test_a_record_of_an_earlier_version_is_brought_forward_with_its_places(
    home: Home, store: SqlStore, instance: Any
) -> None:
    one = instance()
    one.claim("t/0", "t/1")
    one.target.heartbeat(at(one, 4, 9))
    prefix = "cdcflow_" if home.url.startswith("sqlite") else "cdcflow."
    with store._engine.execution_options(writes=True).begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {prefix}shares DROP COLUMN identity"))
        connection.execute(sa.text(f"UPDATE {prefix}alembic_version SET version_num = '0003'"))
    again = open_store(home.url)
    again.migrate()
    assert placed(again.shares(ME)) == {"t/0": 4, "t/1": 9}
    assert {share.identity for share in again.shares(ME).values()} == {""}
    again.identify(ME, {"t/0": replace(one.held["t/0"], identity="first")})
    assert placed(again.shares(ME)) == {"t/0": 4, "t/1": 9}
    again.close()
