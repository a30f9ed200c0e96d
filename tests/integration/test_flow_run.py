"""A pipeline from the first copy to following, through the command: copied, followed, caught up, stopped, gone on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cdcflow import Pipeline
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]

ORDERS = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, total numeric(12,2), note text);
INSERT INTO orders SELECT n, 'customer ' || n % 100, n * 1.25, repeat('x', (n % 50)::int)
FROM generate_series(1, 5000) AS n;
"""


def state_of(target: Database, table: str) -> str:
    """Return a table's recorded state, '' where there is none."""
    try:
        found = target.query("SELECT state FROM cdcflow.tables WHERE source_table = %s", [table])
    except Exception:
        return ""
    return found[0][0] if found else ""


def until_live(running: Running, target: Database, *tables: str, limit: float = 60) -> None:
    def live() -> bool:
        assert not running.ended, running.output()[-4000:]
        return all(state_of(target, table) == "live" for table in tables)

    until(live, limit=limit, what=f"{tables} are live")


def until_same(running: Running, source: Database, target: Database, table: str, limit: float = 60) -> None:
    def equal() -> bool:
        assert not running.ended, running.output()[-4000:]
        return is_same(source, target, table)

    until(equal, limit=limit, what=f"{table} is the same on both sides")


def test_rows_that_were_there_are_copied_and_later_changes_follow(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")
    source_db.execute("UPDATE orders SET note = 'changed' WHERE id % 7 = 0")
    source_db.execute("DELETE FROM orders WHERE id % 11 = 0")
    source_db.execute("INSERT INTO orders VALUES (900001, 'new', 1, NULL)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")


def test_snapshot_ends_after_the_copy_and_stream_goes_on_from_there(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("snapshot", exit_code=0)
    same(source_db, target_db, "orders")
    source_db.execute("DELETE FROM orders WHERE id % 3 = 0; UPDATE orders SET total = total + 1")
    cdcflow("stream", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")
    assert state_of(target_db, "orders") == "live"


def test_stream_before_any_copy_ends_with_what_to_do(
    source_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    done = cdcflow("stream", exit_code=2)
    assert "cdcflow run" in done.stderr
    assert source_db.slots() == []


def test_sigterm_drains_and_the_next_run_goes_on(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    first = running("run")
    until_live(first, target_db, "orders")
    source_db.execute("UPDATE orders SET note = 'while running'")
    until_same(first, source_db, target_db, "orders")
    first.terminate()
    assert first.wait() == 0, first.output()
    source_db.execute("UPDATE orders SET note = 'while stopped'")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")


def test_acknowledged_position_moves_while_the_tables_are_idle(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start
) -> None:
    source_db.execute(ORDERS + "CREATE TABLE other (n int)")
    pipeline_dir.write_rules("public.orders")
    process = running("run")
    until_live(process, target_db, "orders")
    source_db.execute("INSERT INTO other SELECT generate_series(1, 1000)")
    end = source_db.value("SELECT pg_current_wal_flush_lsn()::text")

    def moved() -> bool:
        return bool(
            source_db.value("SELECT bool_and(confirmed_flush_lsn >= %s::pg_lsn) FROM pg_replication_slots", [end])
        )

    until(moved, limit=60, what="the slot moves past what others wrote")


def test_a_table_created_later_is_copied_and_followed_while_the_others_stream(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start
) -> None:
    source_db.execute(ORDERS)
    process = running("run")
    until_live(process, target_db, "orders")
    source_db.execute("CREATE TABLE late (id int PRIMARY KEY, v text)")
    source_db.execute("INSERT INTO late SELECT n, 'v' || n FROM generate_series(1, 2000) AS n")
    until_live(process, target_db, "late")
    source_db.execute("UPDATE late SET v = 'w' WHERE id % 2 = 0; DELETE FROM late WHERE id % 5 = 0")
    source_db.execute("UPDATE orders SET note = 'still here' WHERE id < 100")
    until_same(process, source_db, target_db, "late")
    until_same(process, source_db, target_db, "orders")


def test_a_keyless_table_created_later_gets_each_row_once(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start
) -> None:
    source_db.execute(ORDERS)
    process = running("run")
    until_live(process, target_db, "orders")
    source_db.execute(
        "CREATE TABLE events (kind text, n int); ALTER TABLE events REPLICA IDENTITY FULL;"
        "INSERT INTO events SELECT 'same', 1 FROM generate_series(1, 500)"
    )
    for _ in range(20):
        source_db.execute("INSERT INTO events VALUES ('same', 1), ('other', 2)")
    until_live(process, target_db, "events")
    source_db.execute("INSERT INTO events VALUES ('last', 3); DELETE FROM events WHERE kind = 'other'")
    until_same(process, source_db, target_db, "events")


def test_a_table_that_cannot_be_captured_is_refused_by_name_before_anything_is_made(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS + "CREATE TABLE nokey (n int); INSERT INTO nokey VALUES (1)")
    done = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "public.nokey" in done.stderr
    assert "REPLICA IDENTITY" in done.stderr
    assert source_db.slots() == []
    assert source_db.query("SELECT pubname FROM pg_publication") == []
    source_db.execute("UPDATE nokey SET n = 2")  # the application goes on
    source_db.execute("ALTER TABLE nokey REPLICA IDENTITY FULL")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "nokey")


def test_a_refused_table_that_appears_while_running_fails_alone(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    process = running("run")
    until_live(process, target_db, "orders")
    source_db.execute("CREATE TABLE nokey (n int)")
    until(lambda: state_of(target_db, "nokey") == "failed", limit=60, what="nokey is refused")
    source_db.execute("INSERT INTO nokey VALUES (1); UPDATE nokey SET n = 2; UPDATE orders SET note = 'on'")
    until_same(process, source_db, target_db, "orders")
    found = json.loads(cdcflow("status", "--json", exit_code=0).stdout)
    (table,) = [each for each in found["tables"] if each["source"] == "public.nokey"]
    assert "REPLICA IDENTITY" in table["hint"]


def test_resync_of_one_table_mends_what_was_changed_in_the_target(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS + "CREATE TABLE fine (id int PRIMARY KEY); INSERT INTO fine VALUES (1)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    target_db.execute("DELETE FROM orders WHERE id < 1000; UPDATE orders SET note = 'not ours' WHERE id > 4000")
    target_db.execute("INSERT INTO orders VALUES (-1, 'stray', 0, NULL)")
    cdcflow("resync", "public.orders", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")
    same(source_db, target_db, "fine")


def test_resync_while_an_instance_runs_is_done_by_it(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    process = running("run")
    until_live(process, target_db, "orders")
    target_db.execute("DELETE FROM orders WHERE id < 1000")
    cdcflow("resync", "public.orders", exit_code=0)
    until_same(process, source_db, target_db, "orders")
    until_live(process, target_db, "orders")
    source_db.execute("UPDATE orders SET note = 'followed again'")
    until_same(process, source_db, target_db, "orders")


def test_a_dropped_slot_stops_with_5_and_resync_all_makes_it_anew(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.drop_slots()
    source_db.execute("UPDATE orders SET note = 'lost'")
    done = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "cdcflow resync --all" in done.stderr
    cdcflow("resync", "--all", "--yes", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")


def test_a_removed_checkpoint_stops_with_5_and_resync_all_mends_it(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("run", "--until-caught-up", exit_code=0)
    target_db.execute("DROP SCHEMA cdcflow CASCADE")
    source_db.execute("UPDATE orders SET note = 'lost' WHERE id < 10")
    done = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "cdcflow resync --all" in done.stderr
    cdcflow("resync", "--all", "--yes", exit_code=0)
    same(source_db, target_db, "orders")


def test_a_second_instance_stops_with_5_and_a_sentence(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    process = running("run")
    until_live(process, target_db, "orders")
    done = cdcflow("run", exit_code=5)
    assert "another instance" in done.stderr
    assert not process.ended


def test_teardown_leaves_the_rows_and_nothing_at_the_source(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("run", "--until-caught-up", exit_code=0)
    cdcflow("teardown", "--yes", exit_code=0)
    assert source_db.slots() == []
    assert source_db.query("SELECT pubname FROM pg_publication") == []
    assert target_db.value("SELECT count(*) FROM orders") == 5000
    assert target_db.value("SELECT count(*) FROM cdcflow.checkpoints") == 0


def test_a_rewrite_without_row_events_is_noticed_and_copied_again(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start
) -> None:
    source_db.execute(ORDERS)
    process = running("run")
    until_live(process, target_db, "orders")
    source_db.execute("ALTER TABLE orders ALTER COLUMN total TYPE numeric(14,3) USING total * 2")
    until_same(process, source_db, target_db, "orders")
    source_db.execute("UPDATE orders SET note = 'after' WHERE id = 1")
    until_same(process, source_db, target_db, "orders")


def test_a_column_added_between_two_transactions_arrives(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, running: Start
) -> None:
    source_db.execute(ORDERS)
    process = running("run")
    until_live(process, target_db, "orders")
    source_db.execute("ALTER TABLE orders ADD COLUMN extra int DEFAULT 7")
    source_db.execute("INSERT INTO orders VALUES (900002, 'c', 1, 'n', 8); UPDATE orders SET extra = 9 WHERE id = 5")
    until_same(process, source_db, target_db, "orders")


def test_a_column_added_while_stopped_arrives(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("UPDATE orders SET note = 'before the change' WHERE id = 1")
    source_db.execute("ALTER TABLE orders ADD COLUMN extra int")
    source_db.execute("UPDATE orders SET extra = id WHERE id < 100")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")


def test_schema_changes_stop_applies_everything_before_the_change(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    pipeline_dir.write_rules("public.*", defaults={"schema_changes": "stop"})
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("UPDATE orders SET note = 'before'")
    source_db.execute("ALTER TABLE orders ADD COLUMN extra int")
    source_db.execute("UPDATE orders SET extra = 1, note = 'after' WHERE id = 1")
    done = cdcflow("run", "--until-caught-up", exit_code=5)
    assert "public.orders" in done.stderr
    assert target_db.value("SELECT count(*) FROM orders WHERE note = 'before'") == 5000
    pipeline_dir.write_rules("public.*")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")


def test_schema_changes_ignore_leaves_new_columns_out(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    pipeline_dir.write_rules("public.*", defaults={"schema_changes": "ignore"})
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("ALTER TABLE orders ADD COLUMN extra int")
    source_db.execute("UPDATE orders SET extra = 1, note = 'after' WHERE id = 1")
    for _ in range(2):
        cdcflow("run", "--until-caught-up", exit_code=0)
        source_db.execute("UPDATE orders SET extra = 2, note = 'again' WHERE id = 2")
    cdcflow("run", "--until-caught-up", exit_code=0)
    columns = ["t.id", "t.customer", "t.total", "t.note"]
    same(source_db, target_db, "orders", columns=columns, target_columns=columns)


def test_a_table_whose_rows_the_target_rejects_fails_alone(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS + "CREATE TABLE fine (id int PRIMARY KEY); INSERT INTO fine VALUES (1)")
    target_db.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, total numeric(12,2),"
        " note text CHECK (length(note) < 10))"
    )
    done = cdcflow("run", "--until-caught-up")
    assert done.returncode == 5, done.stderr
    assert "public.orders" in done.stderr
    same(source_db, target_db, "fine")
    target_db.execute("ALTER TABLE orders DROP CONSTRAINT orders_note_check")
    cdcflow("resync", "public.orders", exit_code=0)
    same(source_db, target_db, "orders")


def test_the_python_api_returns_what_was_done(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder
) -> None:
    source_db.execute(ORDERS)
    with Pipeline.from_file(Path(pipeline_dir.config)) as pipeline:
        first = pipeline.run(until_caught_up=True)
        source_db.execute("UPDATE orders SET note = 'x' WHERE id <= 10")
        second = pipeline.run(until_caught_up=True)
        until(lambda: not pipeline.status()["running"], what="the server has let the lease go")
        status = pipeline.status()
    assert first.rows_copied == 5000
    assert first.tables == {"public.orders": "live"}
    assert second.changes_applied == 10
    assert second.transactions == 1
    assert status["position"] == second.position


@pytest.mark.parametrize("moment", ["snapshot", "run"])
def test_a_new_rule_takes_a_table_in_at_the_next_start(
    moment: str, source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS + "CREATE TABLE more (id int PRIMARY KEY, v text); INSERT INTO more VALUES (1, 'a')")
    pipeline_dir.write_rules("public.orders")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("UPDATE orders SET note = 'between'; INSERT INTO more VALUES (2, 'b')")
    pipeline_dir.write_rules("public.*")
    cdcflow(*([moment] if moment == "snapshot" else [moment, "--until-caught-up"]), exit_code=0)
    source_db.execute("UPDATE more SET v = 'c'")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")
    same(source_db, target_db, "more")


def test_the_end_of_the_log_is_reached_where_a_new_segment_begins(
    source_db: Database, target_db: Database, pipeline_dir: PipelineFolder, cdcflow: Call
) -> None:
    source_db.execute(ORDERS)
    cdcflow("run", "--until-caught-up", exit_code=0)
    for _ in range(3):
        source_db.execute("UPDATE orders SET note = note || '.' WHERE id < 10")
        source_db.execute("SELECT pg_switch_wal()")
        cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")
