"""What a running pipeline serves and tells: metrics, health, and signs of life to the service manager."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.cli_shop import Call, Start, fill, page, until_live
from tests.servers.cluster import free_port
from tests.servers.commands import PipelineFolder
from tests.servers.database import Database
from tests.servers.waiting import until


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    """A pipeline over two tables, 1,000 rows each."""
    fill(source_db)
    return pipeline_dir


def test_a_port_that_somebody_else_holds_ends_with_2(shop: PipelineFolder, cdcflow: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        shop.write_config(http={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        done = cdcflow("run", "--until-caught-up", exit_code=2)
    assert "address already in use" in done.stderr


def test_metrics_and_health_are_served_while_it_runs(
    shop: PipelineFolder, cdcflow: Call, running: Start, source_db: Database, target_db: Database
) -> None:
    port = free_port()
    shop.write_config(http={"listen": f"127.0.0.1:{port}"})
    process = running("run")
    until(lambda: page(port, "/health/ready")[0] == 200, what="it is ready")
    until_live(cdcflow, 2)
    source_db.execute("UPDATE orders SET amount = 0 WHERE id <= 10; DELETE FROM orders WHERE id = 11")
    until(lambda: target_db.value("SELECT count(*) FROM orders") == 999, what="the delete arrives")
    wanted = f'cdcflow_applied_rows_total{{operation="update",pipeline="{shop.name}",table="public.orders"}} 10.0'
    until(lambda: wanted in page(port, "/metrics")[1], what="the updates are counted")
    metrics = page(port, "/metrics")[1]
    assert f'cdcflow_snapshot_rows{{pipeline="{shop.name}",table="public.orders"}} 1000.0' in metrics
    until(
        lambda: re.search(r"^cdcflow_lag_bytes\{.*\} 0\.0$", page(port, "/metrics")[1], re.M) is not None,
        what="the lag is 0 when idle",
    )
    assert re.search(r'^cdcflow_table_state\{.*state="live",table="public.orders"\} 1\.0$', metrics, re.M)
    live = json.loads(page(port, "/health/live")[1])
    assert (live["live"], live["state"], live["tables"]) == (True, "streaming", {"live": 2})
    process.terminate()
    assert process.wait() == 0


@contextmanager
def service_manager(path: Path) -> Iterator[list[str]]:
    """Stands where the service manager does; yields what it has heard so far."""
    heard: list[str] = []
    over = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(0.2)

        def listen() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    heard.append(manager.recv(4096).decode())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            over.set()
            thread.join()


def watched_by(path: Path) -> dict[str, str]:
    """The environment of a service whose watchdog waits for one second."""
    return {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}


def test_the_service_manager_hears_ready_signs_of_life_and_stopping(
    shop: PipelineFolder, cdcflow: Call, running: Start, tmp_path: Path
) -> None:
    with service_manager(tmp_path / "notify") as heard:
        process = running("run", env=watched_by(tmp_path / "notify"))
        until(lambda: any(text.startswith("READY=1") for text in heard), what="READY")
        until(lambda: heard.count("WATCHDOG=1") >= 3, what="signs of life while idle")
        until_live(cdcflow, 2)
        process.pause()
        assert not threading.Event().wait(1)  # some may have been on their way
        asleep = heard.count("WATCHDOG=1")
        assert not threading.Event().wait(2)
        assert heard.count("WATCHDOG=1") == asleep
        process.resume()
        until(lambda: heard.count("WATCHDOG=1") > asleep, what="signs of life again")
        process.terminate()
        assert process.wait() == 0
        until(lambda: any(text.startswith("STOPPING=1") for text in heard), what="STOPPING")
    assert "STATUS=" in next(text for text in heard if text.startswith("READY=1"))


def test_a_pipeline_that_waits_for_a_server_shows_life_and_is_not_ready(
    shop: PipelineFolder, cdcflow: Call, running: Start, source_db: Database, target_db: Database, tmp_path: Path
) -> None:
    port = free_port()
    shop.write_config(http={"listen": f"127.0.0.1:{port}"})
    with service_manager(tmp_path / "notify") as heard:
        process = running("run", env=watched_by(tmp_path / "notify"))
        until_live(cdcflow, 2)
        source_db.server.stop()
        until(lambda: page(port, "/health/ready")[0] == 503, what="it is not ready")
        assert page(port, "/health/live")[0] == 200
        before = heard.count("WATCHDOG=1")
        until(lambda: heard.count("WATCHDOG=1") >= before + 3, what="signs of life while it waits")
        source_db.server.start()
        until(lambda: page(port, "/health/ready")[0] == 200, what="it is ready again")
        assert re.search(r"^cdcflow_restarts_total\{.*\} [1-9]", page(port, "/metrics")[1], re.M)
        assert not process.ended
    assert any("waiting" in text for text in heard)


def test_the_reason_of_an_end_with_5_is_told_to_the_service_manager(
    shop: PipelineFolder, cdcflow: Call, source_db: Database, tmp_path: Path
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.drop_slots()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        done = cdcflow("run", env={"NOTIFY_SOCKET": str(tmp_path / "notify")}, exit_code=5)
        heard = []
        with suppress(BlockingIOError):  # it has ended: what it said is in the queue
            while True:
                heard.append(manager.recv(4096).decode())
    assert "cdcflow resync --all" in done.stderr
    assert any("slot" in text for text in heard), heard
