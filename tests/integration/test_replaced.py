"""What a pipeline left at its servers is gone, or another instance is there: noticed, told, mended by what is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.refusals import Call, Refused, end_walsenders, fill, of
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.waiting import until

Start = Callable[..., Running]


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    """A pipeline over two small tables."""
    fill(source_db)
    return pipeline_dir


@pytest.fixture
def refused(cdcflow: Call) -> Refused:
    """See `refusals.of`."""
    return of(cdcflow)


def test_a_slot_made_again_by_hand_is_noticed_and_resync_all_mends_it(
    shop: PipelineFolder, refused: Refused, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.drop_slots()
    source_db.execute("DELETE FROM orders WHERE id < 50")
    source_db.query("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [f"cdcflow_{shop.name}"])
    refused(5, "slot", "cdcflow resync --all")
    assert target_db.value("SELECT count(*) FROM orders") == 100
    mended(cdcflow, source_db, target_db)


def test_a_dropped_slot_is_noticed_and_resync_all_mends_it(
    shop: PipelineFolder, refused: Refused, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.drop_slots()
    source_db.execute("DELETE FROM orders WHERE id < 50")
    refused(5, "slot", "cdcflow resync --all")
    mended(cdcflow, source_db, target_db)


def test_a_removed_checkpoint_is_noticed_and_resync_all_mends_it(
    shop: PipelineFolder, refused: Refused, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    target_db.execute("DELETE FROM cdcflow.checkpoints")
    source_db.execute("DELETE FROM orders WHERE id < 50")
    refused(5, "no position", "cdcflow resync --all")
    mended(cdcflow, source_db, target_db)


def mended(cdcflow: Call, source_db: Database, target_db: Database) -> None:
    cdcflow("resync", "--all", exit_code=0)
    source_db.execute("INSERT INTO orders VALUES (1000, 'after')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")
    same(source_db, target_db, "customers")


def test_an_instance_that_wakes_up_after_another_took_over_writes_nothing(
    shop: PipelineFolder, refused: Refused, running: Start, source_db: Database, target_db: Database
) -> None:
    first = running("run")
    until(lambda: is_same(source_db, target_db, "orders"), what="the rows are copied")
    source_db.execute("INSERT INTO orders VALUES (500, 'streamed')")
    until(lambda: is_same(source_db, target_db, "orders"), what="changes are applied")
    refused(5, "another instance", str(first.pid))

    with target_db.connect(autocommit=False) as holder:
        # The first instance's write is on its way and waits here, until the second one has taken over.
        holder.execute("LOCK TABLE orders IN SHARE MODE")
        source_db.execute("INSERT INTO orders VALUES (501, 'in flight')")
        until(lambda: target_db.query(WAITING, [target_db.name]), what="the first instance's write waits for the lock")
        first.pause()
        end_sessions(target_db, f"cdcflow {shop.name} lease")
        end_walsenders(source_db)
        epoch = target_db.value("SELECT epoch FROM cdcflow.checkpoints")
        second = running("run")
        until(lambda: target_db.value("SELECT epoch FROM cdcflow.checkpoints") > epoch, what="the second takes over")
        holder.rollback()
    source_db.execute("INSERT INTO orders VALUES (502, 'after'); UPDATE orders SET name = 'new' WHERE id = 500")
    until(lambda: is_same(source_db, target_db, "orders"), what="the second instance applies")
    first.resume()
    assert first.wait(90) == 5, first.output()
    assert "cdcflow status" in first.log()
    source_db.execute("DELETE FROM orders WHERE id < 10")
    until(lambda: is_same(source_db, target_db, "orders"), what="the second instance goes on")
    assert not second.ended
    second.terminate()
    assert second.wait() == 0


WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"


def end_sessions(database: Database, application: str) -> None:
    found = database.query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", [application]
    )
    assert found, f"no session is called {application}"
