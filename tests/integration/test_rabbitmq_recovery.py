"""The command over RabbitMQ when queues or instances were lost, and with MySQL and Avro: to an equal target."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.rabbit_world import ROUTE, Exchange, batch, exchange, pairs, rows
from tests.integration.test_rabbitmq_run import Bus, bus, change
from tests.integration.test_rabbitmq_sessions import KINDS, dies_behind_the_first_mark, purged
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.fleet import PostgresServer
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.registry_server import SchemaRegistry
from tests.servers.waiting import until

__all__ = ["bus", "exchange"]

# As the publisher names them: the default one, one of several, and one that it does not know.
GROUPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "named": ({"groups": ["lake", "search"]}, {"group": "search"}),
    "unknown": ({}, {"group": "search"}),
}


def grouped(bus: Callable[..., Bus], group: str) -> tuple[Bus, str]:
    """Return the pipelines, in step with one another, and the name of a queue between them."""
    out, into = GROUPS[group]
    shop = bus(partitions=2, **out)
    shop.into.write_config(source={**shop.into.settings["source"], **into}).write_rules("public.account")
    shop.done(shop.out)
    shop.done(shop.into)
    if group == "unknown":  # its queues have only what came since
        shop.done(shop.out, "resync", "--all", "--yes")
        shop.done(shop.into)
    return shop, ".".join([shop.out.name, *into.values(), "1"])


def ended(run: Running) -> str:
    """Wait for a run that has to be started by somebody; return what it says."""
    assert run.wait(60) == 5, run.output()
    return run.output()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS)
def test_what_both_sides_say_of_a_deleted_queue_ends_with_an_equal_target(
    group: str, bus: Callable[..., Bus], source_db: Database, target_db: Database, rabbitmq: RabbitMq
) -> None:
    shop, queue = grouped(bus, group)
    publisher, applier = shop.start(shop.out), shop.start(shop.into)
    until(lambda: f"reading a queue  queue={queue}" in applier.log(), what="it is read")
    publisher.until_output("streaming")
    rabbitmq.delete_queue(queue)
    change(source_db, random.Random(1))
    said = ended(applier)
    if group == "default":
        assert "do:   cdcflow resync --all" in ended(publisher)
    else:  # another group's queue takes the messages
        publisher.terminate()
        publisher.wait()
    if group == "unknown":
        follow_anew(shop, said)
    else:
        assert "do:   cdcflow resync --all at the publisher" in said
        shop.done(shop.out, "resync", "--all", "--yes")
        assert "it goes on" in shop.done(shop.into, exit_code=5)
        shop.done(shop.into)
    same(source_db, target_db, "account")
    change(source_db, random.Random(2))
    shop.done(shop.out)
    shop.done(shop.into)
    same(source_db, target_db, "account")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("partitions", "more"), [(1, 0), (1, 8000), (2, 8000)])
def test_what_both_sides_say_of_a_deleted_stream_ends_with_an_equal_target(
    partitions: int,
    more: int,
    bus: Callable[..., Bus],
    source_db: Database,
    target_db: Database,
    pg_target: PostgresServer,
    new_database: Callable[..., Database],
    rabbitmq: RabbitMq,
    tmp_path: Path,
) -> None:
    shop = bus(queue="stream", partitions=partitions)
    shop.into.write_rules("public.account")
    shop.done(shop.out)
    shop.done(shop.into)
    source_db.execute("CREATE TABLE had AS TABLE account; TRUNCATE account; INSERT INTO account TABLE had")
    change(source_db, random.Random(1))
    publisher, applier = shop.start(shop.out), shop.start(shop.into)
    queue = f"{shop.out.name}.0"
    until(lambda: f"reading a queue  queue={queue}" in applier.log(), what="it is read")
    publisher.until_output("streaming")
    rabbitmq.delete_queue(queue)
    source_db.execute(f"INSERT INTO account SELECT n, 7 FROM generate_series(1001, {1000 + more}) n")
    source_db.execute("DELETE FROM account WHERE id < 50")
    assert "do:   cdcflow resync --all at the publisher" in ended(applier)
    assert "do:   cdcflow resync --all" in ended(publisher)
    assert f'queue "{queue}" is gone' in shop.done(shop.into, exit_code=5)
    shop.done(shop.out, "resync", "--all", "--yes")
    assert "it was deleted and made again" in shop.done(shop.into, "check")
    assert "it goes on" in shop.done(shop.into, exit_code=5)
    later = new_database(pg_target, label="later")
    also = PipelineFolder(tmp_path / "also", f"{shop.into.name}_also", rabbitmq.url(), later.url)
    also.path.mkdir()
    also.write_config(source=shop.into.settings["source"]).write_rules("public.account")
    for _ in range(2):
        for folder, target in ((shop.into, target_db), (also, later)):
            shop.done(folder)
            same(source_db, target, "account")
        change(source_db, random.Random(2))
        shop.done(shop.out)


def follow_anew(shop: Bus, said: str) -> None:
    """Do what is said of lost messages, in the order in which it is said."""
    told = said[said.rindex("do:") :]
    steps = [told.index(step) for step in ("teardown here", "run here", "resync --all at the publisher")]
    assert steps == sorted(steps)
    shop.done(shop.into, "teardown", "--yes")
    shop.done(shop.into)
    shop.done(shop.out, "resync", "--all", "--yes")
    shop.done(shop.into)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS)
def test_what_is_said_of_missing_messages_ends_with_an_equal_target(
    group: str, bus: Callable[..., Bus], source_db: Database, target_db: Database, rabbitmq: RabbitMq
) -> None:
    shop, queue = grouped(bus, group)
    change(source_db, random.Random(1))
    shop.done(shop.out)
    purged(rabbitmq, queue)
    change(source_db, random.Random(2))
    shop.done(shop.out)
    said = shop.done(shop.into, exit_code=5)
    assert "messages are missing" in said
    follow_anew(shop, said)
    same(source_db, target_db, "account")


@pytest.mark.timeout(300)
def test_an_instance_that_is_killed_is_taken_over_from(
    bus: Callable[..., Bus], source_db: Database, target_db: Database
) -> None:
    shop = bus(partitions=4)
    shop.done(shop.out)
    one, two = shop.start(shop.into), shop.start(shop.into)
    until(lambda: all("reading a queue" in each.log() for each in (one, two)), limit=60, what="both have queues")
    until(lambda: is_same(source_db, target_db, "account"), limit=60, what="the copy")
    publisher = shop.start(shop.out)
    change(source_db, random.Random(1))
    one.kill()
    change(source_db, random.Random(2))
    until(lambda: is_same(source_db, target_db, "account"), limit=60, what="the other has all queues")
    until(lambda: is_same(source_db, target_db, "audit"), limit=60, what="nothing is lost or doubled")
    assert not publisher.ended, publisher.output()
    assert not two.ended, two.output()


@pytest.mark.timeout(300)
def test_mysql_as_avro_arrives_equal(
    tmp_path: Path,
    rabbitmq: RabbitMq,
    schema_registry: SchemaRegistry,
    mysql_source_db: MysqlDatabase,
    target_db: Database,
    pipeline_dir: PipelineFolder,
) -> None:
    mysql_source_db.execute(
        "CREATE TABLE item (id int PRIMARY KEY, name varchar(40), price decimal(12,2), made datetime(6), seen tinyint);"
        "INSERT INTO item VALUES (1, 'one', 1.50, '2024-02-29 12:30:00.123456', 1), (2, 'zwei ö', NULL, NULL, 0)"
    )
    shop = Bus(tmp_path, rabbitmq, mysql_source_db, target_db, f"{pipeline_dir.name}b", partitions=2)  # type: ignore[arg-type]
    spoken = {"format": "avro", "registry": {"url": schema_registry.url}}
    shop.out.write_config(target={**shop.out.settings["target"], **spoken})
    shop.into.write_config(source={**shop.into.settings["source"], **spoken})
    for folder in (shop.out, shop.into):
        folder.write_rules(f"{mysql_source_db.name}.item")
    try:
        shop.done(shop.out)
        shop.done(shop.into)
        mysql_source_db.execute(
            "UPDATE item SET price = 99.99 WHERE id = 2; DELETE FROM item WHERE id = 1;"
            "ALTER TABLE item ADD note text; INSERT INTO item VALUES (3, 'three', 3, NULL, 1, 'new')"
        )
        shop.done(shop.out)
        shop.done(shop.into)
        columns = "id, name, price::text, made::text, seen, note"
        found = target_db.query(f'SELECT {columns} FROM "{mysql_source_db.name}".item')
        assert sorted(found) == [(2, "zwei ö", "99.99", None, 0, None), (3, "three", "3.00", None, 1, "new")]
    finally:
        shop.end()
        for queue in rabbitmq.queues():
            if queue.startswith(shop.out.name):
                rabbitmq.delete_queue(queue)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_two_instances_go_on_behind_a_mark_that_only_one_partition_had(
    kind: str, exchange: Callable[..., Exchange], rabbitmq: RabbitMq, target_db: Database, tmp_path: Path
) -> None:
    shop = exchange(queue=kind, partitions=2)
    first = shop.begun()
    first.apply(batch(100, rows("I", pairs(1, 20))))
    into = PipelineFolder(tmp_path, f"{shop.name}_in", rabbitmq.url(), target_db.url)
    into.write_config(source={"url": rabbitmq.url(), "exchange": shop.name}).write_rules("public.t")
    instances = [Running(tmp_path, number, ("run",), None, ()) for number in (1, 2)]
    try:
        until(lambda: target_db.value("SELECT count(*) FROM t") == 20, limit=60, what="the first rows")
        dies_behind_the_first_mark(first, lambda: first.clear(ROUTE, ROUTE))
        second = shop.begun()
        second.clear(ROUTE, ROUTE)
        second.apply(batch(200, rows("I", pairs(30, 20))))
        found = "SELECT min(id), max(id), count(*) FROM t"
        until(lambda: target_db.query(found) == [(30, 49, 20)], limit=60, what="both are behind the mark")
        for each in instances:
            assert not each.ended, each.output()
    finally:
        for each in instances:
            each.kill()
