"""What a source remembers of itself, and when a checkpoint no longer belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from cdcflow.errors import (
    CdcflowError,
    OperatorError,
    PositionLost,
    SourceChanged,
    SourceUnavailable,
)
from cdcflow.sources.postgres import Lsn, PostgresSource
from tests.integration.source_opened import begun, open_source, slot_name
from tests.servers.cluster import Cluster
from tests.servers.database import Database, make_database
from tests.servers.waiting import until


@pytest.fixture(params=[14, 16, 17, 18])
def database(
    request: pytest.FixtureRequest, pg: Callable[..., object], new_database: Callable[..., Database]
) -> Database:
    return new_database(pg(request.param))


@pytest.fixture
def source(database: Database) -> Iterator[PostgresSource]:
    source = open_source(database)
    yield source
    source.close()


def test_a_checkpoint_of_this_source_goes_on(source: PostgresSource, database: Database) -> None:
    checkpoint = begun(source)
    database.execute("CREATE TABLE later (id int)")
    source.resume(checkpoint)
    again = open_source(database)
    again.resume(checkpoint)
    again.close()


def test_a_slot_that_is_gone_is_a_lost_position(source: PostgresSource, database: Database) -> None:
    checkpoint = begun(source)
    database.drop_slots()
    with pytest.raises(PositionLost, match="does not exist") as lost:
        source.resume(checkpoint)
    assert checkpoint.position in lost.value.why
    assert lost.value.do == "cdcflow resync --all"


def test_a_slot_that_was_made_again_is_a_lost_position(source: PostgresSource, database: Database) -> None:
    checkpoint = begun(source)
    database.drop_slots()
    database.query("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot_name(database)])
    with pytest.raises(PositionLost, match="was recreated or moved") as lost:
        source.resume(checkpoint)
    assert checkpoint.position in lost.value.what


def test_a_slot_that_somebody_advanced_is_a_lost_position(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    checkpoint = begun(source)
    database.execute("INSERT INTO t VALUES (1)")
    until(
        lambda: (
            database.query("SELECT pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [slot_name(database)])
            and database.value(
                "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
                [checkpoint.position, slot_name(database)],
            )
        ),
        limit=60,
        what="the slot is moved",
    )
    with pytest.raises(PositionLost, match="was recreated or moved"):
        source.resume(checkpoint)


def test_a_slot_of_another_plugin_is_not_ours(source: PostgresSource, database: Database) -> None:
    checkpoint = begun(source)
    database.drop_slots()
    database.query("SELECT pg_create_physical_replication_slot(%s)", [slot_name(database)])
    try:
        with pytest.raises(OperatorError, match="is not ours"):
            source.resume(checkpoint)
    finally:
        database.query("SELECT pg_drop_replication_slot(%s)", [slot_name(database)])


def test_a_slot_that_the_server_invalidated_is_a_lost_position(new_server: Callable[..., Cluster]) -> None:
    server = new_server(
        18, settings={"max_slot_wal_keep_size": "'1MB'", "wal_keep_size": "0", "max_wal_size": "'32MB'"}
    )
    database = make_database(server)
    source = open_source(database)
    checkpoint = begun(source)
    database.execute("CREATE TABLE filler (v text)")

    def lost() -> bool:
        database.execute("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
        database.query("SELECT pg_switch_wal()")
        database.execute("CHECKPOINT")
        return bool(database.value("SELECT wal_status FROM pg_replication_slots") == "lost")

    until(lost, limit=60, what="the slot is invalidated")
    with pytest.raises(PositionLost, match="was invalidated: wal_removed"):
        source.resume(checkpoint)
    source.close()


@pytest.mark.parametrize("which", ["", "_append"])
def test_a_publication_that_is_gone_is_a_lost_position(source: PostgresSource, database: Database, which: str) -> None:
    checkpoint = begun(source)
    database.execute(f"DROP PUBLICATION {slot_name(database)}{which}")
    with pytest.raises(PositionLost, match="does not exist"):
        source.resume(checkpoint)


def test_a_publication_that_was_made_again_is_a_lost_position(source: PostgresSource, database: Database) -> None:
    checkpoint = begun(source)
    database.execute(f"DROP PUBLICATION {slot_name(database)}; CREATE PUBLICATION {slot_name(database)}")
    with pytest.raises(PositionLost, match="was dropped and made again"):
        source.resume(checkpoint)


def test_another_server_or_database_is_another_source(
    source: PostgresSource, database: Database, new_database: Callable[..., Database]
) -> None:
    checkpoint = begun(source)
    with pytest.raises(SourceChanged, match="system identifier"):
        source.resume(replace(checkpoint, source={**checkpoint.source, "system": "1"}))
    other = open_source(new_database(database.server))
    with pytest.raises(SourceChanged, match="database"):
        other.resume(checkpoint)
    other.close()


def test_a_checkpoint_from_the_future_is_of_another_history(source: PostgresSource) -> None:
    checkpoint = begun(source)
    with pytest.raises(SourceChanged, match="the source's log ends at"):
        source.resume(replace(checkpoint, position="FFFF/0"))


def promote(server: Cluster) -> None:
    """Begin a new timeline at the end of the log, as a failover does."""
    server.stop()
    (server._data / "standby.signal").touch()
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
    until(lambda: not _in_recovery(server), limit=60, what="the server is promoted")


def _in_recovery(server: Cluster) -> bool:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        return bool(connection.execute("SELECT pg_is_in_recovery()").fetchone()[0])  # type: ignore[index]


def fill(database: Database, beyond: Lsn) -> None:
    database.execute("CREATE TABLE IF NOT EXISTS filler (v text)")

    def far() -> bool:
        database.execute("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
        return Lsn.parse(database.value("SELECT pg_current_wal_flush_lsn()::text")).covers(beyond)

    until(far, limit=60, what="the log has grown")


def test_a_failover_that_lost_what_was_applied_is_another_history(new_server: Callable[..., Cluster]) -> None:
    server = new_server(18)
    database = make_database(server)
    source = open_source(database)
    checkpoint = begun(source)
    promote(server)
    source.resume(checkpoint)  # before the switch
    source.stream(Lsn.parse(checkpoint.position), {}, lambda table: None).close()
    assert source.identity()["timeline"] == "2"
    # What the old server had logged behind the switch and we had applied.
    applied = Lsn(Lsn.parse(database.value("SELECT pg_current_wal_flush_lsn()::text")).value + 3_000_000)
    fill(database, applied)
    ahead = replace(checkpoint, position=str(applied))
    with pytest.raises(SourceChanged, match="has another history: it is on timeline 2"):
        source.resume(ahead)
    # Once our own confirmations came from the new timeline, a checkpoint from the old server's time goes on.
    database.query("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [slot_name(database), str(applied)])
    fill(database, Lsn(applied.value + 100_000))
    moved = database.value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots")
    source.resume(replace(checkpoint, position=str(moved)))
    source.close()


def test_a_failover_while_a_source_is_open_is_compared_when_its_stream_is_opened_again(
    new_server: Callable[..., Cluster],
) -> None:
    server = new_server(18)
    database = make_database(server)
    source = open_source(database)
    begun(source)
    promote(server)
    applied = Lsn(Lsn.parse(database.value("SELECT pg_current_wal_flush_lsn()::text")).value + 1_000_000)
    fill(database, applied)

    def refused() -> bool:
        try:
            source.stream(applied, {}, lambda table: None).close()
        except SourceUnavailable:
            return False  # a kept connection noticed the restart
        except SourceChanged:
            return True
        raise AssertionError("the stream was opened")

    until(refused, limit=60, what="the stream is refused")
    source.close()


def test_a_slot_in_use_is_waited_for_and_its_process_is_named(source: PostgresSource, database: Database) -> None:
    checkpoint = begun(source)
    stream = source.stream(Lsn.parse(checkpoint.position), {}, lambda table: None)
    with pytest.raises(SourceUnavailable, match="in use by process"):
        source.teardown()
    with pytest.raises(CdcflowError) as second:
        source.stream(Lsn.parse(checkpoint.position), {}, lambda table: None)
    assert isinstance(second.value, SourceUnavailable)
    stream.close()
    until(lambda: _torn_down(source), limit=60, what="the slot is dropped")


def _torn_down(source: PostgresSource) -> bool:
    try:
        source.teardown()
    except SourceUnavailable:
        return False
    return True


def test_the_end_is_reached_by_what_the_server_has_flushed_even_at_a_page_that_is_empty(
    source: PostgresSource, database: Database
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    for _ in range(3):
        database.query("SELECT pg_switch_wal()")
        end = source.end()
        until(
            lambda end=end: Lsn.parse(database.value("SELECT pg_current_wal_flush_lsn()::text")).covers(end),  # type: ignore[misc]
            limit=60,
            what="the end is flushed",
        )
        database.execute("UPDATE t SET id = id + 1")
