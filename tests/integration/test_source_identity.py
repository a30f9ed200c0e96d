"""What a source remembers of itself, what it makes at the server, and when a checkpoint no longer belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from cdcflow.errors import (
    AccessDenied,
    CdcflowError,
    ConfigError,
    OperatorError,
    PositionLost,
    SourceChanged,
    SourceUnavailable,
    TableRefused,
)
from cdcflow.model.context import Context
from cdcflow.model.position import Checkpoint
from cdcflow.model.route import Mode, Route
from cdcflow.sources.postgres import Config, Lsn, PostgresSource
from tests.servers.cluster import Cluster
from tests.servers.database import Database, make_database
from tests.servers.waiting import until

Open = Callable[..., PostgresSource]


def open_source(database: Database, **options: object) -> PostgresSource:
    url = str(options.pop("url", database.url))
    return PostgresSource(Config(url=url, **options), Context(database.name[-30:], 256_000_000, 100_000, 64_000_000))


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


def routes(source: PostgresSource, **changes: object) -> list[Route]:
    return [
        replace(Route(t, t.name, tuple((c, c.name) for c in t.columns if not c.generated), t.key), **changes)  # type: ignore[arg-type]
        for t in source.tables()
    ]


def begun(source: PostgresSource) -> Checkpoint:
    """Make the durable part and return the checkpoint at its beginning."""
    snapshot = source.prepare(routes(source))
    snapshot.close()
    return Checkpoint("p", str(snapshot.position), source.identity(), 1)


def slot_name(database: Database) -> str:
    return f"cdcflow_{database.name[-30:]}"


def members(database: Database, suffix: str = "") -> set[str]:
    name = slot_name(database) + suffix
    return {t for (t,) in database.query("SELECT tablename FROM pg_publication_tables WHERE pubname = %s", [name])}


# -- what is made


def test_prepare_makes_slot_and_publications_and_teardown_drops_them(
    source: PostgresSource, database: Database
) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    assert not source.prepared()
    begun(source)
    assert source.prepared()
    assert database.slots() == [slot_name(database)]
    assert members(database) == {"a", "b"}
    assert members(database, "_append") == set()
    assert source.retained() is not None
    assert len(source.teardown()) == 3
    assert database.slots() == []
    assert not database.query("SELECT 1 FROM pg_publication")
    assert source.teardown() == []


def test_a_slot_survives_a_failover_where_the_server_can(source: PostgresSource, database: Database) -> None:
    begun(source)
    (slot,) = database.query("SELECT to_jsonb(s) FROM pg_replication_slots s WHERE database = %s", [database.name])[0]
    assert slot.get("failover", False) is (database.version >= 17)


def test_failover_asked_of_a_server_that_has_none_is_an_error_of_configuration(database: Database) -> None:
    source = open_source(database, failover=True)
    if database.version >= 17:
        begun(source)
    else:
        with pytest.raises(ConfigError, match="failover"):
            begun(source)
    source.close()


def test_what_an_unfinished_attempt_left_is_made_anew(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY)")
    first = begun(source)
    second = begun(source)
    assert Lsn.parse(second.position).covers(Lsn.parse(first.position))
    source.resume(second)


def test_many_tables_with_difficult_names_are_included(source: PostgresSource, database: Database) -> None:
    database.execute('CREATE SCHEMA "S %s"')
    names = ['"Mixed Case"', '"quote""d"', '"select"', '"100%"', '"a:b"', '"🐘"', f'"{"n" * 63}"']
    for name in names:
        database.execute(f'CREATE TABLE "S %s".{name} (id int PRIMARY KEY)')
    database.execute(
        "DO $$ BEGIN FOR n IN 1..700 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', n); END LOOP; END $$"
    )
    begun(source)
    assert len(members(database)) == 707


def test_include_changes_what_differs_and_nothing_else(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    begun(source)
    numbers = database.query("SELECT oid, prrelid FROM pg_publication_rel ORDER BY oid")
    source.include(routes(source))
    assert database.query("SELECT oid, prrelid FROM pg_publication_rel ORDER BY oid") == numbers
    database.execute("CREATE TABLE c (id int PRIMARY KEY)")
    source.include([route for route in routes(source) if route.source.name.table != "a"])
    assert members(database) == {"b", "c"}
    source.include([replace(r, mode=Mode.APPEND) if r.source.name.table == "c" else r for r in routes(source)])
    assert members(database) == {"a", "b"}
    assert members(database, "_append") == {"c"}
    source.include([])
    assert members(database) == set()


def test_a_child_by_inheritance_is_not_included_with_its_parent(source: PostgresSource, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (a)")
    source.include([route for route in routes(source) if route.source.name.table == "a"])
    assert members(database) == {"a"}


@pytest.mark.parametrize(
    ("ddl", "refused"),
    [
        ("CREATE TABLE t (id int)", True),
        ("CREATE TABLE t (id int); ALTER TABLE t REPLICA IDENTITY FULL", False),
        ("CREATE TABLE t (id int PRIMARY KEY)", False),
        ("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", True),
        ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", True),
        ("CREATE TABLE t (id int UNIQUE NOT NULL)", True),
        ("CREATE TABLE t (id int UNIQUE NOT NULL); ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key", False),
        (
            "CREATE TABLE t (id int NOT NULL); CREATE UNIQUE INDEX i ON t (id);"
            "ALTER TABLE t REPLICA IDENTITY USING INDEX i; DROP INDEX i",
            True,
        ),
        ("CREATE TABLE t (id int) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t DEFAULT", True),
        (
            "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t DEFAULT",
            False,
        ),
        (
            "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE t1 PARTITION OF t DEFAULT;"
            "ALTER TABLE t1 REPLICA IDENTITY NOTHING",
            True,
        ),
        (
            "CREATE TABLE t (id int) PARTITION BY LIST (id); ALTER TABLE t REPLICA IDENTITY FULL;"
            "CREATE TABLE t1 PARTITION OF t DEFAULT",
            True,
        ),
        (
            "CREATE TABLE t (id int) PARTITION BY LIST (id); ALTER TABLE t REPLICA IDENTITY FULL;"
            "CREATE TABLE t1 PARTITION OF t DEFAULT; ALTER TABLE t1 REPLICA IDENTITY FULL",
            False,
        ),
    ],
)
def test_a_table_is_refused_exactly_when_the_server_would_refuse_its_updates(
    source: PostgresSource, database: Database, ddl: str, refused: bool
) -> None:
    database.execute(ddl)
    database.execute("INSERT INTO t VALUES (1)")
    (route,) = [route for route in routes(source) if route.source.name.table == "t"]
    finding = source.refusal(route.source, route)
    assert (finding is not None) == refused
    if finding is not None:
        assert 'ALTER TABLE "public"."t"' in finding.do or "public.t" in finding.do
        with pytest.raises(TableRefused):
            source.include([route])
        assert source.refusal(route.source, replace(route, mode=Mode.APPEND)) is None
    # The oracle: once published, does an UPDATE fail?
    database.execute(f"CREATE PUBLICATION p_{database.name} FOR TABLE t WITH (publish_via_partition_root = true)")
    try:
        database.execute("UPDATE t SET id = 1")
    except psycopg.errors.ObjectNotInPrerequisiteState:
        assert refused
    else:
        assert not refused


# -- what cannot be had


def test_wal_level_replica_says_how_to_change_it(new_server: Callable[..., Cluster]) -> None:
    server = new_server(18, settings={"wal_level": "replica"})
    source = open_source(make_database(server))
    with pytest.raises(OperatorError) as refused:
        source.prepare([])
    assert "ALTER SYSTEM SET wal_level = 'logical'" in refused.value.do
    source.close()


def test_no_free_slot_says_how_to_get_one(new_server: Callable[..., Cluster]) -> None:
    server = new_server(18, settings={"max_replication_slots": "1"})
    database = make_database(server)
    database.query("SELECT pg_create_physical_replication_slot('taken')")
    source = open_source(database)
    with pytest.raises(OperatorError) as refused:
        source.prepare([])
    assert "max_replication_slots" in refused.value.do
    assert refused.value.exit_code == 5
    source.close()


def test_each_missing_privilege_is_named_with_what_grants_it(database: Database) -> None:
    role = f"r_{database.name}"
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    limited = open_source(database, url=database.server.url(database.name, user=role, password="secret"))  # type: ignore[attr-defined]
    given, reports = list[str](), list[str]()
    try:
        for _ in range(6):
            try:
                limited.prepare(routes(limited)).close()
                break
            except AccessDenied as denied:
                reports.append(denied.report())
                statement = denied.do.splitlines()[0].split(", or")[0]
                given.append(statement)
                if statement.startswith("ALTER TABLE"):  # the name has no schema in the server's words
                    statement = f"ALTER TABLE public.t OWNER TO {role}"
                database.execute(statement)
        else:
            pytest.fail(f"still denied after {given}")
        assert not any("secret" in report for report in reports)
        assert any("CREATE ON DATABASE" in each for each in given)
        assert any(each.endswith("REPLICATION") for each in given)
    finally:
        limited.teardown()
        limited.close()
        database.execute(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")


# -- whether a checkpoint still belongs to it


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
        limit=10,
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
    until(lambda: not _in_recovery(server), limit=30, what="the server is promoted")


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

    until(refused, limit=20, what="the stream is refused")
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
    until(lambda: _torn_down(source), limit=15, what="the slot is dropped")


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
            limit=10,
            what="the end is flushed",
        )
        database.execute("UPDATE t SET id = id + 1")
