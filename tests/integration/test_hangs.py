"""A connection to the target that goes silent in the middle of a chunk, of a batch, and of a COMMIT."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.servers.cluster import Cluster
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.proxy import Proxy
from tests.servers.vanishing import Vanishing
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]

# A peer that is gone is noticed within a minute (`engines.postgres.connect`); what stands in the URL wins, and
# brings that down to seconds.
SOON = "connect_timeout=2&tcp_user_timeout=2000&keepalives_idle=1&keepalives_interval=1&keepalives_count=2"
NOTICED_SECONDS = 45
# A bookkeeping transaction whose client is gone holds its locks until the server gives it up (`state.engines`).
GIVEN_UP_SECONDS = 90

TABLES = ("keyed", "keyless")
ROWS = 3000
# The row at which the target stands still, for as long as the test holds the lock.
GATE = 2000

SHOP = f"""
CREATE TABLE keyed (id int PRIMARY KEY, v text);
CREATE TABLE keyless (id int, v text); ALTER TABLE keyless REPLICA IDENTITY FULL;
INSERT INTO keyed SELECT n, repeat('x', 300) FROM generate_series(1, {ROWS}) n;
INSERT INTO keyless SELECT n % 10, 'row' FROM generate_series(1, 100) n;
"""
# `row`: in the middle of what is written; `commit`: behind it, before the commit has happened.
GATES = {
    "row": "CREATE TRIGGER gate BEFORE INSERT ON keyed FOR EACH ROW EXECUTE FUNCTION gate()",
    "commit": "CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON keyed DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION gate()",
}
_locks = itertools.count(1)


class Gate:
    """Holds the target still where a row comes by."""

    def __init__(self, target: Database, kind: str) -> None:
        self._target, self._lock = target, next(_locks)
        target.execute(
            "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id % 10000 ="
            f" {GATE} THEN PERFORM pg_advisory_xact_lock_shared({self._lock}); END IF; RETURN NEW; END $$;"
            f" {GATES[kind]}; ALTER TABLE keyed ENABLE ALWAYS TRIGGER gate"
        )

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Shut it; it opens at the end."""
        with self._target.connect() as holder:
            holder.execute("SELECT pg_advisory_lock(%s)", [self._lock])
            yield

    def until_held(self) -> None:
        """Wait until the target stands still there."""
        waits = (
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %s"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        until(lambda: self._target.query(waits, [self._lock]), what="the target stands at the gate")


@pytest.fixture
def way(pg_target: Cluster) -> Iterator[Vanishing]:
    """The way to the target."""
    made = Vanishing(pg_target)
    yield made
    made.close()


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, way: Vanishing) -> PipelineFolder:
    """A pipeline to the target by that way, with tables that are there already."""
    source_db.execute(SHOP)
    target_db.execute("CREATE TABLE keyed (id int PRIMARY KEY, v text); CREATE TABLE keyless (id int, v text)")
    pipeline_dir.through(target=f"{way.through(target_db.url)}?{SOON}")
    return pipeline_dir


def until_noticed(process: Running) -> None:
    before = process.log().count("interrupted")

    def noticed() -> bool:
        assert not process.ended, process.output()[-4000:]
        return process.log().count("interrupted") > before

    until(noticed, limit=NOTICED_SECONDS, what="it notices that the connection is gone")


def until_same(process: Running, source: Database, target: Database) -> None:
    def equal() -> bool:
        assert not process.ended, process.output()[-4000:]
        return all(is_same(source, target, table) for table in TABLES)

    try:
        until(equal, limit=GIVEN_UP_SECONDS, what="both sides are the same")
    except AssertionError as late:
        doing = "SELECT application_name, state, wait_event, now() - state_change, query FROM pg_stat_activity"
        sessions = "\n".join(map(str, target.query(f"{doing} WHERE datname = current_database()")))
        raise AssertionError(f"{late}\n{process.output()[-4000:]}\n{sessions}") from late


def until_live(process: Running, target: Database) -> None:
    def live() -> bool:
        assert not process.ended, process.output()[-4000:]
        return target.query("SELECT DISTINCT state FROM cdcflow.tables") == [("live",)]

    until(live, what="the tables are live")


def end(process: Running, source: Database, target: Database, cdcflow: Call) -> None:
    """See that it goes on by itself, end it, and follow something more with another run."""
    source.execute("INSERT INTO keyed VALUES (-1, 'after'); INSERT INTO keyless VALUES (3, 'row')")
    until_same(process, source, target)
    process.terminate()
    assert process.wait() == 0, process.output()
    source.execute("UPDATE keyed SET v = 'last' WHERE id < 5; DELETE FROM keyless WHERE id = 3")
    cdcflow("run", "--until-caught-up", exit_code=0)
    for table in TABLES:
        same(source, target, table)


def strike(
    way: Vanishing, gate: AbstractContextManager[None], process: Running, when: str, shows: Callable[[], object]
) -> None:
    """With the target at the gate: vanish, and open the gate before or after that is noticed and over. "for long":
    the way back does not know the old connections any more, while the server still holds them.

    `shows`: whether the target has gone on behind the gate without us.
    """
    way.vanish()
    if when != "after we are back":
        gate.__exit__(None, None, None)
        until(shows, what="the target went on")
    until_noticed(process)
    if when == "for long":
        way.forget()
    way.come_back()
    if when == "after we are back":
        gate.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        ("row", "at once"),
        ("row", "for long"),
        ("row", "after we are back"),
        ("commit", "at once"),
        ("commit", "for long"),
        ("commit", "after we are back"),
    ],
)
def test_a_target_that_vanishes_within_a_chunk_has_each_row_once(
    shop: PipelineFolder,
    source_db: Database,
    target_db: Database,
    way: Vanishing,
    running: Start,
    cdcflow: Call,
    kind: str,
    when: str,
) -> None:
    gate = Gate(target_db, kind)
    shut = gate.shut()
    shut.__enter__()
    process = running("run")
    gate.until_held()

    def shows() -> object:
        """It has committed, or waits for the rest of the chunk, which does not come any more."""
        if kind == "commit":
            return target_db.value("SELECT count(*) FROM keyed") == ROWS
        return target_db.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name ~ ' copy$' AND wait_event = 'ClientRead'"
        )

    strike(way, shut, process, when, shows)
    until_same(process, source_db, target_db)
    end(process, source_db, target_db, cdcflow)


@pytest.mark.parametrize(
    ("kind", "rows", "when"),
    [
        ("row", 3, "at once"),
        ("row", 3, "for long"),
        ("row", 2000, "at once"),
        ("row", 2000, "for long"),
        ("row", 2000, "after we are back"),
        ("commit", 3, "for long"),
        ("commit", 3, "after we are back"),
        ("commit", 2000, "at once"),
        ("commit", 2000, "for long"),
    ],
)
def test_a_target_that_vanishes_within_a_batch_has_each_change_once(
    shop: PipelineFolder,
    source_db: Database,
    target_db: Database,
    way: Vanishing,
    running: Start,
    cdcflow: Call,
    kind: str,
    rows: int,
    when: str,
) -> None:
    process = running("run")
    until_live(process, target_db)
    until_same(process, source_db, target_db)
    gate = Gate(target_db, kind)
    shut = gate.shut()
    shut.__enter__()
    first = 10_000 + GATE - rows // 2
    source_db.execute(
        f"BEGIN; INSERT INTO keyed SELECT n, 'new' FROM generate_series({first}, {first + rows - 1}) n;"
        " INSERT INTO keyless SELECT n % 10, 'row' FROM generate_series(1, 20) n; COMMIT"
    )
    gate.until_held()

    def shows() -> object:
        """It has committed, or it has nothing more to do in an open transaction."""
        if kind == "commit" or rows < 64:
            return is_same(source_db, target_db, "keyed")
        return not target_db.query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

    strike(way, shut, process, when, shows)
    until_same(process, source_db, target_db)
    end(process, source_db, target_db, cdcflow)


@pytest.fixture
def way_to_source(pg_source: Cluster) -> Iterator[Vanishing]:
    """The way to the source."""
    made = Vanishing(pg_source)
    yield made
    made.close()


def test_a_source_that_vanishes_within_a_chunk_and_within_the_stream_is_read_on(
    source_db: Database,
    target_db: Database,
    pipeline_dir: PipelineFolder,
    way_to_source: Vanishing,
    running: Start,
    cdcflow: Call,
) -> None:
    source_db.execute(SHOP)
    # More than what sockets hold: the rest of the chunk is still at the source.
    source_db.execute("INSERT INTO keyed SELECT n, repeat('x', 20000) FROM generate_series(3001, 5000) n")
    source_db.execute("ALTER TABLE keyed ALTER v SET STORAGE EXTERNAL")
    # Until then the server's own end of the old stream holds the slot.
    source_db.execute(f"ALTER DATABASE {source_db.name} SET wal_sender_timeout = '6s'")
    target_db.execute("CREATE TABLE keyed (id int PRIMARY KEY, v text); CREATE TABLE keyless (id int, v text)")
    pipeline_dir.through(source=f"{way_to_source.through(source_db.url)}?{SOON}")
    gate = Gate(target_db, "row")
    shut = gate.shut()
    shut.__enter__()
    process = running("run")
    gate.until_held()
    way_to_source.vanish()
    shut.__exit__(None, None, None)
    until_noticed(process)
    assert target_db.value("SELECT count(*) FROM keyed") == 0  # the chunk was not whole
    way_to_source.forget()
    way_to_source.come_back()
    until_same(process, source_db, target_db)
    until_live(process, target_db)

    way_to_source.vanish()
    source_db.execute("UPDATE keyed SET v = 'y' WHERE id <= 100; DELETE FROM keyless WHERE id = 1")
    until_noticed(process)
    way_to_source.forget()
    way_to_source.come_back()
    until_same(process, source_db, target_db)
    end(process, source_db, target_db, cdcflow)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["a chunk", "a batch"])
def test_a_target_that_acknowledges_and_never_answers_is_given_up(
    where: str,
    source_db: Database,
    target_db: Database,
    pg_target: Cluster,
    pipeline_dir: PipelineFolder,
    proxy: Callable[..., Proxy],
    running: Start,
    cdcflow: Call,
) -> None:
    source_db.execute(SHOP)
    target_db.execute("CREATE TABLE keyed (id int PRIMARY KEY, v text); CREATE TABLE keyless (id int, v text)")
    between = proxy(pg_target)
    pipeline_dir.through(target=f"{between.through(target_db.url)}?connect_timeout=2")
    if where == "a batch":
        process = running("run")
        until_live(process, target_db)
    gate = Gate(target_db, "commit")
    with gate.shut():
        if where == "a batch":
            source_db.execute(f"INSERT INTO keyed VALUES (1{GATE}, 'x')")
        else:
            process = running("run")
        gate.until_held()
        between.hang()
    until(lambda: process.log().count("interrupted"), limit=100, what="it is noticed")
    between.passing()
    end(process, source_db, target_db, cdcflow)
