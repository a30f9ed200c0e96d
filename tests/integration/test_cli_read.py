"""`cdcflow read` and the Python `read`: events as they are committed, and nothing left behind."""

from __future__ import annotations

import datetime
import json
import subprocess
import threading
from collections.abc import Callable
from decimal import Decimal

import pytest

from cdcflow.errors import AccessDenied, ConfigError
from cdcflow.events import read
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]

SLOTS = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND temporary"
# A slot is listed, and active, before it has found the point in the log from which on everything is sent.
READING = f"{SLOTS} AND active AND confirmed_flush_lsn IS NOT NULL"
PUBLICATIONS = "SELECT array_agg(pubname::text ORDER BY 1) FROM pg_publication"


@pytest.fixture
def shop(source_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    source_db.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, amount numeric, note text, at timestamptz, tags text[], doc jsonb);"
        "ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;"
        "CREATE TABLE other (id int PRIMARY KEY)"
    )
    return pipeline_dir


def reading(source_db: Database, process: Running) -> None:
    """Wait until the slot that it reads under is complete: what is committed from now on is seen."""
    until(lambda: process.ended or source_db.value(READING) == 1, what="it reads")
    assert not process.ended, process.output()


def test_each_change_is_a_json_line_with_key_images_position_and_commit_time(
    shop: PipelineFolder, source_db: Database, running: Start
) -> None:
    process = running("read", "--limit", "5")
    reading(source_db, process)
    source_db.execute(
        "INSERT INTO orders VALUES (1, 1.50, repeat('x', 9000), '2024-01-02 03:04:05+00', '{a,NULL}', '{\"n\": 1}')"
    )
    source_db.execute("UPDATE orders SET amount = 'NaN' WHERE id = 1")
    source_db.execute("UPDATE orders SET id = 2 WHERE id = 1")
    source_db.execute("DELETE FROM orders WHERE id = 2")
    source_db.execute("TRUNCATE orders")
    assert process.wait() == 0
    lines = [json.loads(line) for line in process.out().splitlines()]
    assert [(line["op"], line.get("key")) for line in lines] == [
        ("insert", {"id": 1}),
        ("update", {"id": 1}),
        ("update", {"id": 2}),
        ("delete", {"id": 2}),
        ("truncate", None),
    ]
    assert {line["table"] for line in lines} == {"public.orders"}
    inserted, updated, moved, deleted, truncated = lines
    assert inserted["before"] is None
    assert inserted["after"] == {
        "id": 1,
        "amount": "1.50",
        "note": "x" * 9000,
        "at": "2024-01-02 03:04:05+00",
        "tags": ["a", None],
        "doc": {"n": 1},
    }
    assert updated["unchanged"] == ["note"]
    assert "note" not in updated["after"]
    assert updated["after"]["amount"] == "NaN"
    assert (moved["before"], moved["after"]["id"]) == ({"id": 1}, 2)
    assert (deleted["before"], deleted["after"]) == ({"id": 2}, None)
    assert "before" not in truncated
    places = [tuple(int(half, 16) for half in line["position"].split("/")) for line in lines]
    assert places == sorted(set(places))
    for line in lines:
        age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(line["commit_time"])
        assert abs(age) < datetime.timedelta(minutes=5)


def test_only_the_named_tables_are_read(shop: PipelineFolder, source_db: Database, running: Start) -> None:
    process = running("read", "--table", "public.oth*", "--limit", "1")
    reading(source_db, process)
    source_db.execute("INSERT INTO orders (id) VALUES (1); INSERT INTO other VALUES (7)")
    assert process.wait() == 0
    assert json.loads(process.out())["table"] == "public.other"


def test_a_glob_that_matches_nothing_is_an_error_of_usage(shop: PipelineFolder, cdcflow: Call) -> None:
    done = cdcflow("read", "--table", "public.nothing", exit_code=2)
    assert "public.nothing" in done.stderr
    assert "schema.table" in cdcflow("read", "--table", "a.b.c.d", exit_code=2).stderr


def test_until_caught_up_ends_on_a_source_where_nothing_happens(shop: PipelineFolder, cdcflow: Call) -> None:
    done = cdcflow("read", "--until-caught-up", exit_code=0)
    assert done.stdout == ""


def test_nothing_is_left_at_the_source_and_nothing_is_made_at_the_target(
    shop: PipelineFolder, source_db: Database, target_db: Database, running: Start
) -> None:
    process = running("read")
    reading(source_db, process)
    process.interrupt()
    assert process.wait() == 0
    until(lambda: source_db.slots() == [], what="the server drops the temporary slot")
    assert source_db.value(PUBLICATIONS) is None
    assert target_db.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'cdcflow'") == 0


def test_reading_beside_a_pipeline_does_not_touch_it(
    shop: PipelineFolder, source_db: Database, target_db: Database, cdcflow: Call, running: Start
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    confirmed = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE NOT temporary AND slot_name = %s"
    held = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
    until(lambda: not source_db.value(held, [f"cdcflow_{shop.name}"]), what="the server has let the run go")
    before = source_db.value(confirmed, [f"cdcflow_{shop.name}"])
    publications = source_db.value(PUBLICATIONS)
    process = running("read", "--limit", "1")
    reading(source_db, process)
    assert source_db.value(PUBLICATIONS) == publications
    source_db.execute("INSERT INTO other VALUES (1)")
    assert process.wait() == 0
    assert source_db.value(confirmed, [f"cdcflow_{shop.name}"]) == before
    assert source_db.value(PUBLICATIONS) == publications
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.value("SELECT count(*) FROM other") == 1


def test_what_a_killed_read_left_is_swept_by_the_next(
    shop: PipelineFolder, source_db: Database, running: Start, cdcflow: Call
) -> None:
    process = running("read")
    reading(source_db, process)
    process.kill()
    until(lambda: source_db.value(SLOTS) == 0, what="the server drops the temporary slot")
    assert source_db.value(PUBLICATIONS) is not None
    cdcflow("read", "--until-caught-up", exit_code=0)
    assert source_db.value(PUBLICATIONS) is None


def test_a_table_without_a_key_is_read_for_inserts_and_its_updates_go_on_working(
    shop: PipelineFolder, source_db: Database, running: Start
) -> None:
    source_db.execute("CREATE TABLE keyless (a int)")
    process = running("read", "--table", "public.keyless", "--limit", "2")
    reading(source_db, process)
    source_db.execute("INSERT INTO keyless VALUES (1)")
    source_db.execute("UPDATE keyless SET a = 2")
    source_db.execute("INSERT INTO keyless VALUES (3)")
    assert process.wait() == 0
    assert [json.loads(line)["after"] for line in process.out().splitlines()] == [{"a": 1}, {"a": 3}]


def test_an_iteration_gives_events_in_commit_order_one_transaction_after_the_other(source_db: Database) -> None:
    source_db.execute("CREATE TABLE a (id int PRIMARY KEY, v numeric); CREATE TABLE b (id int PRIMARY KEY)")
    events = read(source_db.url, tables=["public.*"])
    writer = threading.Thread(target=write_three_transactions, args=(source_db,))
    writer.start()
    found = [next(events) for _ in range(5)]
    writer.join()
    events.close()
    assert [(event.table, event.op, dict(event.key)) for event in found] == [
        ("public.a", "insert", {"id": 1}),
        ("public.b", "insert", {"id": 1}),
        ("public.a", "insert", {"id": 2}),
        ("public.a", "update", {"id": 1}),
        ("public.b", "delete", {"id": 1}),
    ]
    assert found[0].after == {"id": 1, "v": Decimal("1.50")}
    assert found[4].after is None
    assert found[0].position == found[2].position != found[3].position
    assert found[0].commit_time is not None
    assert found[0].commit_time.tzinfo is not None
    assert source_db.value(PUBLICATIONS) is None
    until(lambda: source_db.value(SLOTS) == 0, what="the slot is gone")


def write_three_transactions(source_db: Database) -> None:
    with source_db.connect(autocommit=True) as connection:
        until(
            lambda: connection.execute(READING).fetchone() == (1,),  # type: ignore[arg-type]
            what="it reads",
        )
        with connection.transaction():
            connection.execute("INSERT INTO a VALUES (1, 1.50)")
            connection.execute("INSERT INTO b VALUES (1)")
            connection.execute("INSERT INTO a VALUES (2, NULL)")
        connection.execute("UPDATE a SET v = 2 WHERE id = 1")
        connection.execute("DELETE FROM b")


def test_a_caller_who_thinks_long_about_an_event_keeps_the_connection(source_db: Database) -> None:
    source_db.execute("CREATE TABLE a (id int PRIMARY KEY)")
    source_db.execute("ALTER ROLE CURRENT_USER IN DATABASE " + source_db.value("SELECT current_database()::text")
                      + " SET wal_sender_timeout = '9s'")  # fmt: skip
    events = read(source_db.url, tables=["public.a"])
    writer = threading.Thread(target=insert_when_read, args=(source_db, 3))
    writer.start()
    first = next(events)
    writer.join()
    assert not threading.Event().wait(12)  # longer than the server waits for a sign of life
    source_db.execute("INSERT INTO a VALUES (100)")
    rest = [next(events) for _ in range(3)]
    events.close()
    assert [event.key["id"] for event in (first, *rest)] == [1, 2, 3, 100]


def insert_when_read(source_db: Database, count: int) -> None:
    with source_db.connect(autocommit=True) as connection:
        until(
            lambda: connection.execute(READING).fetchone() == (1,),  # type: ignore[arg-type]
            what="it reads",
        )
        for number in range(1, count + 1):
            connection.execute("INSERT INTO a VALUES (%s)", [number])


def test_a_shape_that_changes_while_it_is_read_is_followed(
    shop: PipelineFolder, source_db: Database, running: Start
) -> None:
    process = running("read", "--table", "public.other", "--limit", "2")
    reading(source_db, process)
    source_db.execute("INSERT INTO other VALUES (1)")
    source_db.execute("ALTER TABLE other ADD COLUMN more text DEFAULT 'd'")
    source_db.execute("INSERT INTO other VALUES (2)")
    assert process.wait() == 0
    assert [json.loads(line)["after"] for line in process.out().splitlines()] == [{"id": 1}, {"id": 2, "more": "d"}]


def test_a_transaction_that_arrives_in_pieces_is_read_whole(
    shop: PipelineFolder, source_db: Database, running: Start
) -> None:
    process = running("read", "--table", "public.orders", "--limit", "40001")
    reading(source_db, process)
    source_db.execute("INSERT INTO orders (id, note) SELECT g, repeat('x', 1000) FROM generate_series(1, 40000) g")
    source_db.execute("INSERT INTO orders (id) VALUES (0)")
    assert process.wait() == 0
    lines = [json.loads(line) for line in process.out().splitlines()]
    assert [line["key"]["id"] for line in lines] == [*range(1, 40001), 0]
    assert lines[-1]["position"]


def test_an_unsupported_url_and_a_wrong_database_are_clear_errors(source_db: Database) -> None:
    with pytest.raises(ConfigError, match="cannot read from"):
        next(read("oracle://host/db"))
    with pytest.raises(AccessDenied):
        next(read(source_db.url + "_not_there"))
