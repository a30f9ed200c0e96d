"""The command from PostgreSQL over RabbitMQ to PostgreSQL, with crashes on both sides. The databases are the oracle."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rstream

from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.waiting import until

KINDS = ("quorum", "stream")
KILLS = int(os.environ.get("CDCFLOW_TEST_RABBITMQ_KILLS", "2"))  # of each side, for each kind of queue
TABLES = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, note text);
CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY, account int, amount numeric(12,2));
ALTER TABLE account ALTER note SET STORAGE EXTERNAL;
ALTER TABLE account REPLICA IDENTITY FULL;
INSERT INTO account SELECT n, 1000, repeat('x', n % 3000) FROM generate_series(1, 500) n;
INSERT INTO audit (account, amount) SELECT n % 500, n * 1.5 FROM generate_series(1, 2000) n;
"""

# Without a key: what came twice would be there twice.
AUDIT = {"match": "public.audit", "mode": "append"}


class Bus:
    """The two pipelines, in a folder each."""

    def __init__(self, folder: Path, broker: RabbitMq, source: Database, target: Database, name: str, **keys: Any):
        self.out = PipelineFolder(_made(folder / "out"), name, source.url, broker.url())
        self.out.write_config(target={"url": broker.url(), **keys}).write_rules("public.account", AUDIT)
        self.into = PipelineFolder(_made(folder / "into"), f"{name}_in", broker.url(), target.url)
        self.into.write_config(source={"url": broker.url(), "exchange": name})
        self.into.write_rules("public.account", AUDIT)
        self._numbers = iter(range(10_000))
        self.started: list[Running] = []

    def start(self, folder: PipelineFolder, *arguments: str, **env: str) -> Running:
        made = Running(folder.path, next(self._numbers), arguments or ("run",), env or None, ())
        self.started.append(made)
        return made

    def done(self, folder: PipelineFolder, *arguments: str, exit_code: int = 0, **env: str) -> str:
        run = self.start(folder, *(arguments or ("run", "--until-caught-up")), **env)
        run.process.wait(150)
        assert run.returncode == exit_code, run.output()
        return run.output()

    def end(self) -> None:
        for run in self.started:
            if not run.ended:
                run.kill()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture
def bus(tmp_path: Path, rabbitmq: RabbitMq, source_db: Database, target_db: Database, pipeline_dir: PipelineFolder):
    made: list[Bus] = []

    def make(**keys: Any) -> Bus:
        source_db.execute(TABLES)
        made.append(Bus(tmp_path, rabbitmq, source_db, target_db, f"{pipeline_dir.name}b", **keys))
        return made[-1]

    yield make
    for each in made:
        each.end()
        each.done(each.out, "teardown", "--yes")
        for queue in rabbitmq.queues():
            if queue.startswith(each.out.name):
                rabbitmq.delete_queue(queue)


def change(source: Database, chance: random.Random, transactions: int = 30) -> None:
    with source.connect(autocommit=False) as connection:
        for _ in range(transactions):
            pick, amount = chance.randrange(1, 500), chance.randrange(100)
            connection.execute("UPDATE account SET balance = balance - %s WHERE id = %s", [amount, pick])
            connection.execute("INSERT INTO audit (account, amount) VALUES (%s, %s)", [pick, amount])
            if chance.randrange(8) == 0:
                connection.execute("UPDATE account SET id = id + 10000 WHERE id = %s", [pick])
                connection.execute("UPDATE account SET id = id - 10000 WHERE id = %s", [pick + 10000])
            if chance.randrange(8) == 0:
                connection.execute("UPDATE account SET note = repeat('y', %s) WHERE id = %s", [amount * 30, pick])
            if chance.randrange(10) == 0:
                connection.execute("INSERT INTO audit (account, amount) SELECT n, 1 FROM generate_series(1, 300) n")
            connection.commit()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_copy_and_stream_arrive_equal(
    kind: str, bus: Callable[..., Bus], source_db: Database, target_db: Database
) -> None:
    shop = bus(queue=kind, partitions=2)
    shop.done(shop.out)
    change(source_db, random.Random(1))
    source_db.execute("ALTER TABLE account ADD extra text DEFAULT 'e'")
    source_db.execute("UPDATE account SET extra = 'f' WHERE id < 100; DELETE FROM account WHERE id > 480")
    shop.done(shop.out)
    shop.done(shop.into)
    for table in ("account", "audit"):
        same(source_db, target_db, table)
    source_db.execute("TRUNCATE account; INSERT INTO account VALUES (1, 2, 'three', 'four')")
    shop.done(shop.out)
    shop.done(shop.into)
    same(source_db, target_db, "account")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_name_that_is_given_away_is_met_by_all_before_one_goes_on(
    kind: str, bus: Callable[..., Bus], source_db: Database, target_db: Database
) -> None:
    shop = bus(queue=kind, partitions=4)
    shop.done(shop.out)
    shop.done(shop.into)
    source_db.execute("ALTER TABLE account RENAME note TO remark")
    source_db.execute("UPDATE account SET remark = 'older' WHERE id % 2 = 0")
    source_db.execute("ALTER TABLE account ADD extra text")
    source_db.execute("UPDATE account SET extra = 'newer' WHERE id % 3 = 0")
    source_db.execute("ALTER TABLE account RENAME balance TO amount")
    source_db.execute("UPDATE account SET amount = 7 WHERE id % 5 = 0")
    # What is sent again, its marks too, is passed over.
    shop.done(shop.out, "run", "--until-caught-up", exit_code=-9, CDCFLOW_KILL_AT="batch committed:1")
    shop.done(shop.out)
    instances = [shop.start(shop.into) for _ in range(2)]

    def equal() -> bool:
        for each in instances:
            assert not each.ended, each.output()
        return is_same(source_db, target_db, "account")

    until(equal, limit=60, what="the target equals the source")
    said = "".join(each.log() for each in instances)
    marks = [line for line in said.splitlines() if "all shares have come  meeting=0/" in line]
    assert len(marks) >= 2
    assert not any("emptied" in line for line in marks)


@pytest.mark.timeout(500)
@pytest.mark.parametrize("kind", KINDS)
def test_kills_of_either_side_at_seeded_moments_lose_and_double_nothing(
    kind: str, bus: Callable[..., Bus], source_db: Database, target_db: Database
) -> None:
    chance = random.Random(f"kills {kind}")
    shop = bus(queue=kind)
    source_db.execute("TRUNCATE audit")  # a copied chunk without a key would be there twice
    shop.done(shop.out, "run", exit_code=-9, CDCFLOW_KILL_AT="chunk sent:1")
    applier = shop.start(shop.into)
    for number in range(KILLS):
        moment = f"{('batch sent', 'batch committed')[number % 2]}:{chance.randint(1, 3)}"
        run = shop.start(shop.out, "run", CDCFLOW_KILL_AT=moment)
        until(lambda run=run: _killed(run, source_db, chance), limit=90, what=f"killed at {moment}")
        assert run.returncode == -9, run.output()
    publisher = shop.start(shop.out)
    # Behind what it publishes once more: were the applier killed before that is read, nobody would know it again.
    change(source_db, chance)

    def equal() -> bool:
        for run in (applier, publisher):
            assert not run.ended, run.output()
        return all(is_same(source_db, target_db, table) for table in ("account", "audit"))

    until(equal, limit=90, what="nothing is lost or doubled by the publisher")
    applier.kill()
    for number in range(KILLS):
        change(source_db, chance)
        moment = f"{('batch sent', 'batch committed')[number % 2]}:{chance.randint(1, 2)}"
        run = shop.start(shop.into, "run", CDCFLOW_KILL_AT=moment)
        try:
            until(lambda run=run: _killed(run, source_db, chance), limit=90, what=f"killed at {moment}")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{run.output()[-3000:]}\n{publisher.output()[-3000:]}") from late
        assert run.returncode == -9, run.output()
    applier = shop.start(shop.into)
    until(equal, limit=90, what="nothing is lost or doubled by the applier")
    assert source_db.value("SELECT count(*) FROM audit") > 10


def _killed(run: Running, source: Database, chance: random.Random) -> bool:
    if not run.ended:
        change(source, chance, 2)
    return run.ended


@pytest.mark.timeout(300)
def test_a_broker_that_takes_nothing_or_is_restarted_in_the_middle_is_waited_for(
    tmp_path: Path,
    new_rabbitmq: Callable[[], RabbitMq],
    source_db: Database,
    target_db: Database,
    pipeline_dir: PipelineFolder,
) -> None:
    broker = new_rabbitmq()
    source_db.execute(TABLES)
    shop = Bus(tmp_path, broker, source_db, target_db, f"{pipeline_dir.name}b")

    def equal() -> bool:
        return all(is_same(source_db, target_db, table) for table in ("account", "audit"))

    try:
        shop.done(shop.out)
        publisher, applier = shop.start(shop.out), shop.start(shop.into)
        until(lambda: is_same(source_db, target_db, "audit"), limit=60, what="the copy")
        broker.memory_alarm(True)
        change(source_db, random.Random(2))
        until(lambda: "takes no messages" in publisher.log(), limit=60, what="it is told that it has to wait")
        broker.memory_alarm(False)
        until(equal, limit=60, what="equal behind the alarm")
        before = publisher.log().count("interrupted")
        broker.kill()
        change(source_db, random.Random(3))
        until(lambda: publisher.log().count("interrupted") > before, limit=60, what="it noticed")
        broker.start()
        until(equal, limit=90, what="equal")
        assert not publisher.ended, publisher.output()
        assert not applier.ended, applier.output()
    finally:
        shop.end()
        shop.done(shop.out, "teardown", "--yes")


def test_check_says_what_is_missing(bus: Callable[..., Bus]) -> None:
    shop = bus()
    assert "nobody has published" in shop.done(shop.into, "check")
    shop.done(shop.out, "check")
    shop.done(shop.out)
    assert "quorum" in shop.done(shop.into, "check")


@pytest.mark.timeout(300)
def test_what_a_stream_removed_before_it_was_read_is_a_blocker(
    bus: Callable[..., Bus], source_db: Database, rabbitmq: RabbitMq
) -> None:
    """The broker's smallest limits, set by a policy as its administrator would."""
    shop = bus(queue="stream")
    limits = '{"max-length-bytes": 100000, "stream-max-segment-size-bytes": 50000}'
    rabbitmq.ctl("set_policy", "small", f"^{shop.out.name}", limits, "--apply-to", "streams")
    try:
        shop.done(shop.out)
        assert "removed" not in shop.done(shop.into, "check")
        shop.done(shop.into)
        assert "removed" not in shop.done(shop.into, "check")

        def removed() -> bool:
            source_db.execute("UPDATE account SET balance = balance + 1")
            shop.done(shop.out)
            looked = shop.start(shop.into, "check")
            looked.wait()
            return "were removed before they were read" in looked.output()

        until(removed, limit=120, what="the stream removes its oldest messages")
        assert "cdcflow resync" in shop.done(shop.into, "check", exit_code=3)
        assert "no longer holds what comes next" in shop.done(shop.into, exit_code=5)
    finally:
        rabbitmq.ctl("clear_policy", "small")


@pytest.mark.timeout(300)
def test_clients_of_the_stream_protocol_find_the_partitions_as_one_super_stream(
    bus: Callable[..., Bus], rabbitmq: RabbitMq
) -> None:
    shop = bus(queue="stream", partitions=3)
    shop.done(shop.out)
    found: dict[str, set[int]] = {}

    async def read() -> None:
        consumer = rstream.SuperStreamConsumer(
            "127.0.0.1", rabbitmq.stream_port, username="guest", password="guest", super_stream=f"{shop.out.name}.super"
        )
        over = asyncio.Event()

        async def take(message: Any, context: rstream.MessageContext) -> None:
            change = json.loads(message.body or b"{}").get("after") or {}
            if "balance" in change:
                found.setdefault(context.stream, set()).add(change["id"])
            if sum(map(len, found.values())) == 500:
                over.set()

        async with consumer:
            first = rstream.ConsumerOffsetSpecification(rstream.OffsetType.FIRST, None)
            await consumer.subscribe(take, decoder=rstream.amqp_decoder, offset_specification=first)
            await asyncio.wait_for(over.wait(), 60)

    asyncio.run(read())
    assert sorted(found) == [f"{shop.out.name}.{number}" for number in range(3)]
    assert set().union(*found.values()) == set(range(1, 501))


def test_the_shapes_at_another_exchange_are_newer_than_what_was_told_at_the_first(
    bus: Callable[..., Bus], source_db: Database, target_db: Database, tmp_path: Path, rabbitmq: RabbitMq
) -> None:
    first = bus()
    first.done(first.out)
    for column in ("a", "b"):
        source_db.execute(f"ALTER TABLE account ADD {column} text; UPDATE account SET {column} = 'x' WHERE id < 5")
    first.done(first.out)
    first.done(first.into)
    source_db.execute("ALTER TABLE account ADD c text; UPDATE account SET c = 'y'")
    later = PipelineFolder(_made(tmp_path / "later"), f"{first.out.name}x", source_db.url, rabbitmq.url())
    later.write_config(target={"url": rabbitmq.url()}).write_rules("public.account")
    first.done(later)
    first.into.write_config(source={"url": rabbitmq.url(), "exchange": later.name})
    first.done(first.into)
    same(source_db, target_db, "account")
    first.done(later, "teardown", "--yes")
