"""Tables copied again, and all that a pipeline made taken away, by command."""

from __future__ import annotations

import json

import pytest

from tests.integration.cli_shop import Call, Start, fill, until_live
from tests.servers.cluster import free_port
from tests.servers.commands import PipelineFolder
from tests.servers.database import Database, is_same
from tests.servers.waiting import until


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    """A pipeline over two tables, 1,000 rows each."""
    fill(source_db)
    return pipeline_dir


def test_resync_of_one_table_copies_it_again_and_ends(
    shop: PipelineFolder, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    target_db.execute("DELETE FROM orders; UPDATE customers SET name = 'x'")
    done = cdcflow("resync", "public.orders", exit_code=0)
    assert done.stdout == "public.orders: live\n"
    assert is_same(source_db, target_db, "orders")
    assert target_db.value("SELECT count(*) FROM customers WHERE name = 'x'") == 1000


def test_resync_asks_a_running_instance_to_copy_a_table_again(
    shop: PipelineFolder, cdcflow: Call, running: Start, source_db: Database, target_db: Database
) -> None:
    shop.write_config(http={"listen": f"127.0.0.1:{free_port()}"})
    process = running("run")
    until_live(cdcflow, 2)
    target_db.execute("DELETE FROM orders")
    done = cdcflow("resync", "public.orders", exit_code=0)
    assert "running instance was asked" in done.stdout
    until(lambda: target_db.value("SELECT count(*) FROM orders") == 1000, what="it is copied again")
    until_live(cdcflow, 2)
    assert not process.ended
    assert is_same(source_db, target_db, "orders")


def test_resync_of_a_table_that_is_not_there_offers_the_nearest(shop: PipelineFolder, cdcflow: Call) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    done = cdcflow("resync", "public.ordrs", exit_code=2)
    assert "public.orders" in done.stderr


def test_resync_all_mends_a_lost_slot(
    shop: PipelineFolder, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.drop_slots()
    source_db.execute("DELETE FROM orders WHERE id < 100")
    cdcflow("run", "--until-caught-up", exit_code=5)
    done = json.loads(cdcflow("resync", "--all", "--json", exit_code=0).stdout)
    assert done == {"resync": ["public.customers: live", "public.orders: live"]}
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert is_same(source_db, target_db, "orders")


def test_teardown_drops_slot_publication_and_state_and_keeps_the_rows(
    shop: PipelineFolder, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    done = json.loads(cdcflow("teardown", "--yes", "--json", exit_code=0).stdout)
    assert [line.split()[0] for line in done["dropped"]] == ["replication", "publication", "publication", "state"]
    assert source_db.slots() == []
    assert source_db.value("SELECT count(*) FROM pg_publication") == 0
    assert target_db.value("SELECT count(*) FROM orders") == 1000
    assert cdcflow("teardown", "--yes", exit_code=0).stdout == "nothing was there\n"


def test_teardown_is_refused_while_an_instance_runs(shop: PipelineFolder, cdcflow: Call, running: Start) -> None:
    process = running("run")
    until_live(cdcflow, 2)
    assert "another instance" in cdcflow("teardown", "--yes", exit_code=5).stderr
    assert not process.ended
