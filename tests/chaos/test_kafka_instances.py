"""Four instances of a pipeline in one group, killed, started and stopped under traffic: each row once, in order."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from tests.integration.kafka_pairs import Through, through
from tests.servers.database import Database, same
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until

SECONDS = float(os.environ.get("CDCFLOW_CHAOS_SECONDS", "20"))
INSTANCES = 4
ROWS = 500

TABLES = f"""
CREATE TABLE t (id int PRIMARY KEY, version int NOT NULL, v text);
CREATE TABLE loose (n int, v text);
ALTER TABLE loose REPLICA IDENTITY FULL;
INSERT INTO t SELECT n, 0, 'first' FROM generate_series(1, {ROWS}) n;
INSERT INTO loose VALUES (0, 'first');
"""

# Fires also for sessions that switch triggers off. What is written twice, or in another order, is in it.
AUDIT = """
CREATE TABLE audit (number bigint GENERATED ALWAYS AS IDENTITY, id int, version int, op text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.audit (id, version, op) VALUES (NEW.id, NEW.version, TG_OP);
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION watch();
ALTER TABLE t ENABLE ALWAYS TRIGGER watch;
"""

OUT_OF_ORDER = """
SELECT count(*) FROM (
    SELECT version, lag(version) OVER (PARTITION BY id ORDER BY number) AS earlier FROM audit
) AS followed WHERE version <= earlier
"""


class Traffic(threading.Thread):
    """Updates that count a row's version up, deletions that come back as newer versions, rows without a key."""

    def __init__(self, database: Database, seed: int) -> None:
        super().__init__(daemon=True)
        self._database, self._random = database, random.Random(seed)
        self.done = threading.Event()
        self.failure: BaseException | None = None
        self.count = 0

    def run(self) -> None:
        try:
            with self._database.connect() as connection:
                while not self.done.wait(0.01):
                    self.count += 1
                    pick = self._random.randrange(1, ROWS - 20)
                    connection.execute(
                        "UPDATE t SET version = version + 1, v = %s WHERE id BETWEEN %s AND %s",
                        [f"change {self.count}", pick, pick + self._random.choice((0, 1, 20))],
                    )
                    connection.execute("INSERT INTO loose VALUES (%s, %s)", [self.count, "x"])
                    if self.count % 10 == 0:
                        connection.execute(
                            "WITH gone AS (DELETE FROM t WHERE id = %s RETURNING version)"
                            " INSERT INTO t SELECT %s, version + 1, 'again' FROM gone",
                            [pick, ROWS + self.count],
                        )
        except BaseException as error:
            self.failure = error


@pytest.mark.timeout(600)
def test_instances_that_are_killed_come_and_go_write_each_row_once_and_in_order(
    tmp_path: Path, kafka: Kafka, source_db: Database, target_db: Database
) -> None:
    way = through(tmp_path, kafka, source_db, target_db, partitions=12)
    chance = random.Random(7)
    source_db.execute(TABLES)
    try:
        way.publish()
        way.apply()
        target_db.execute(AUDIT)
        publisher = way.publishing.start("run")
        traffic = Traffic(source_db, 11)
        traffic.start()
        for _ in range(INSTANCES):
            way.instance()
        until(lambda: target_db.value("SELECT count(*) FROM audit") > 0, limit=120)
        _disturb(way, chance)
        traffic.done.set()
        traffic.join()
        assert traffic.failure is None
        publisher.terminate()
        assert publisher.wait() == 0, publisher.log()
        way.publish()
        for one in way.running:
            one.terminate()
        for one in way.running:
            assert one.wait() in (0, -9), one.log()
        way.apply()
        same(source_db, target_db, "t")
        same(source_db, target_db, "loose")
        assert target_db.value(OUT_OF_ORDER) == 0
        assert target_db.value("SELECT count(*) FROM audit") > traffic.count / 2
    finally:
        way.end()


def _disturb(way: Through, chance: random.Random) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        alive = [one for one in way.running if not one.ended]
        for one in way.running:
            assert one.returncode in (None, 0, -9), one.log()
        act = chance.choice(("kill", "kill", "leave", "join"))
        if act == "join" or len(alive) < 2:
            if len(alive) <= INSTANCES:
                way.instance()
        else:
            one = chance.choice(alive)
            if act == "kill":
                one.kill()
            else:
                one.terminate()
                one.wait()
            way.instance()
        threading.Event().wait(chance.uniform(1, 4))
