"""PostgreSQL into Kafka by the command: what readers of the topics find."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.kafka_world import NewWorld, World, make_world
from tests.servers.commands import Running
from tests.servers.database import Database
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until

Cdcflow = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]


@pytest.fixture
def new_world(kafka: Kafka, source_db: Database, tmp_path: Path) -> NewWorld:
    """`new_world()`: a pipeline from the test's database into the Kafka of all tests."""
    return lambda *tables: make_world(kafka, source_db, tmp_path, tables or ("public.*",))


@pytest.fixture
def world(new_world: NewWorld) -> World:
    return new_world()


def caught_up(cdcflow: Cdcflow) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)


def test_a_table_is_copied_as_r_events_and_followed_in_order(world: World, cdcflow: Cdcflow) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    world.source.execute("INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 500) n")
    caught_up(cdcflow)
    copied = world.changes("t")
    assert [each.op for each in copied] == ["r"] * 500
    assert {each.position.rpartition("/")[2] for each in copied} == {"0"}
    world.source.execute("UPDATE t SET v = 'changed' WHERE id <= 100; DELETE FROM t WHERE id > 450")
    world.source.execute("INSERT INTO t VALUES (1000, 'new'); UPDATE t SET v = 'again' WHERE id = 1")
    caught_up(cdcflow)
    assert world.rows("t", "id") == [
        {"id": n, "v": v} for n, v in world.source.query("SELECT id, v FROM t ORDER BY id")
    ]
    by_key = world.by_key("t")
    assert [each.op for each in by_key['{"id": 1}']] == ["r", "u", "u"]
    assert [each.op for each in by_key['{"id": 451}']] == ["r", "d"]
    assert {each.partition for each in world.events("t")} == {0, 1, 2}
    assert len({each.txid for each in by_key['{"id": 1}'] if each.op == "u"}) == 2


def test_a_delete_has_a_tombstone_behind_it_and_a_changed_key_is_a_delete_and_a_create(
    world: World, cdcflow: Cdcflow
) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    caught_up(cdcflow)
    world.source.execute("UPDATE t SET id = 10 WHERE id = 1; DELETE FROM t WHERE id = 2")
    caught_up(cdcflow)
    for key in ('{"id": 1}', '{"id": 2}'):
        of_key = [each for each in world.events("t") if json.dumps(each.key) == key]
        assert [(each.op, each.tombstone) for each in of_key] == [("r", False), ("d", False), ("d", True)]
    assert [each.op for each in world.by_key("t")['{"id": 10}']] == ["c"]


def test_a_large_value_that_was_not_logged_is_said_to_be_unchanged(world: World, cdcflow: Cdcflow) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, n int, v text)")
    world.source.execute("ALTER TABLE t ALTER v SET STORAGE EXTERNAL; INSERT INTO t VALUES (1, 1, repeat('x', 9000))")
    caught_up(cdcflow)
    world.source.execute("UPDATE t SET n = 2")
    caught_up(cdcflow)
    last = world.changes("t")[-1]
    assert (last.op, last.unchanged) == ("u", ("v",))
    assert world.rows("t", "id") == [{"id": 1, "n": 2, "v": "x" * 9000}]


def test_a_transaction_that_comes_in_pieces_is_seen_whole_and_once(world: World, cdcflow: Cdcflow) -> None:
    world.folder.write_config(batch={"max_rows": 1000, "max_bytes": "1MB"})
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    caught_up(cdcflow)
    world.source.execute("INSERT INTO t SELECT n, repeat('y', 200) FROM generate_series(1, 30000) n")
    caught_up(cdcflow)
    changes = world.changes("t")
    assert sorted(each.after["id"] for each in changes if each.after) == list(range(1, 30001))
    assert len(changes) == 30000


def test_the_shape_of_a_table_is_told_before_its_rows_and_again_when_it_changes(world: World, cdcflow: Cdcflow) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    caught_up(cdcflow)
    world.source.execute("ALTER TABLE t ADD COLUMN more numeric(10,2); INSERT INTO t VALUES (2, 'b', 1.50)")
    caught_up(cdcflow)
    told = world.kafka.read(f"{world.name}.schema_changes")
    shapes = {message.key: json.loads(message.value or b"") for message in told}
    assert len(shapes) == 2
    assert all((key or b"").startswith(b"public.t#") for key in shapes)
    of_row = {message.header("cdcflow.schema"): message for message in world.messages("t")}
    assert {(key or b"").partition(b"#")[2] for key in shapes} == set(of_row)
    assert {len(shape["columns"]) for shape in shapes.values()} == {2, 3}


def test_truncate_is_told_in_every_partition(world: World, cdcflow: Cdcflow) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    world.source.execute("INSERT INTO t SELECT generate_series(1, 30)")
    caught_up(cdcflow)
    world.source.execute("TRUNCATE t; INSERT INTO t VALUES (7)")
    caught_up(cdcflow)
    meetings = [(m.partition, m.header("cdcflow.meeting")) for m in world.messages("t") if m.header("cdcflow.meeting")]
    assert {partition for partition, _ in meetings} == {0, 1, 2}
    assert len({name for _, name in meetings}) == 1
    assert (meetings[0][1] or b"").endswith(b"/3")
    assert world.rows("t", "id") == [{"id": 7}]


@pytest.mark.parametrize(("signals", "told"), [("marks", [(None, None)] * 3), ("none", [])])
def test_readers_that_know_no_truncates_are_spared_them(
    signals: str, told: list[tuple[None, None]], world: World, cdcflow: Cdcflow
) -> None:
    world.configure(signals=signals)
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int, w int); INSERT INTO t VALUES (1, 1, 1)")
    caught_up(cdcflow)
    world.source.execute("TRUNCATE t; INSERT INTO t VALUES (7, 7, 7)")
    caught_up(cdcflow)
    marks = [(m.key, m.value) for m in world.messages("t") if m.header("cdcflow.meeting")]
    assert marks == told
    world.source.execute("ALTER TABLE t DROP COLUMN w; INSERT INTO t VALUES (8, 8)")
    caught_up(cdcflow)
    cdcflow("resync", "public.t", exit_code=0)
    marks = [(m.key, m.value) for m in world.messages("t") if m.header("cdcflow.meeting")]
    assert marks == told * 3
    rows = [m for m in world.messages("t") if not m.header("cdcflow.meeting")]
    assert sorted(json.loads(m.value or b"")["op"] for m in rows) == ["c", "c", "r", "r", "r"]


def test_a_compacted_topic_takes_a_truncate_and_a_table_that_is_copied_again(world: World, cdcflow: Cdcflow) -> None:
    world.configure(compact=True)
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 30)")
    caught_up(cdcflow)
    world.source.execute("TRUNCATE t; INSERT INTO t VALUES (7)")
    caught_up(cdcflow)
    assert world.rows("t", "id") == [{"id": 7}]
    world.source.execute("TRUNCATE t; INSERT INTO t VALUES (8)")
    caught_up(cdcflow)
    cdcflow("resync", "public.t", exit_code=0)
    assert world.rows("t", "id") == [{"id": 8}]
    # None of them may be compacted away in one partition, while readers of another wait for it.
    keys = [(m.partition, m.key) for m in world.messages("t") if m.header("cdcflow.meeting")]
    assert len(keys) == 9
    assert len(set(keys)) == 9


@pytest.mark.parametrize("order", ["table", "transaction"])
def test_the_order_that_is_asked_for_decides_the_partition(order: str, world: World, cdcflow: Cdcflow) -> None:
    world.configure(order=order, topic="{pipeline}.all")
    world.source.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    caught_up(cdcflow)
    with world.source.connect(autocommit=False) as session:
        for n in range(20):
            session.execute(f"INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n}); UPDATE a SET id = {n} + 100")
            session.execute("DELETE FROM a")
            session.commit()
    caught_up(cdcflow)
    read = world.kafka.read(f"{world.name}.all")
    positions = [(m.header("cdcflow.position") or b"").decode().rpartition("/") for m in read]
    if order == "transaction":
        assert {m.partition for m in read} == {0}
        # In the order of the source, over both tables.
        assert [(p[0], int(p[2])) for p in positions] == sorted((p[0], int(p[2])) for p in positions)
    else:
        assert len({m.partition for m in read}) <= 2
        of_a = {m.partition for m in read if b'"a"' in (m.value or b"")}
        assert len(of_a) == 1


def test_begin_and_end_of_transactions_are_told_where_it_is_asked_for(world: World, cdcflow: Cdcflow) -> None:
    world.configure(transactions=True)
    world.source.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    caught_up(cdcflow)
    world.source.execute("BEGIN; INSERT INTO a VALUES (1), (2); INSERT INTO b VALUES (1); COMMIT")
    caught_up(cdcflow)
    told = [json.loads(m.value or b"") for m in world.kafka.read(f"{world.name}.transaction")]
    assert [each["status"] for each in told] == ["BEGIN", "END"]
    assert told[1]["event_count"] == 3
    counts = {each["data_collection"]: each["event_count"] for each in told[1]["data_collections"]}
    assert counts == {"public.a": 2, "public.b": 1}
    assert told[0]["id"].split(":")[0] == world.changes("b")[0].txid


def test_status_resync_and_teardown_work_through_the_state_topic(
    world: World, cdcflow: Cdcflow, running: Start
) -> None:
    world.source.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50)")
    process = running("run")
    until(lambda: len(world.changes("t")) == 50, limit=60)
    until(lambda: json.loads(cdcflow("status", "--json").stdout)["tables"][0]["state"] == "live", limit=60)
    seen = json.loads(cdcflow("status", "--json", exit_code=0).stdout)
    assert seen["running"] is True
    cdcflow("resync", "public.t", exit_code=0)
    until(lambda: [each.op for each in world.changes("t")].count("r") == 100, limit=60)
    assert len(world.rows("t", "id")) == 50
    process.terminate()
    assert process.wait() == 0, process.output()
    assert json.loads(cdcflow("status", "--json", exit_code=0).stdout)["running"] is False
    cdcflow("teardown", "--yes", exit_code=0)
    assert f"{world.name}.state" not in world.kafka.topics()
    assert world.topic("t") in world.kafka.topics()
