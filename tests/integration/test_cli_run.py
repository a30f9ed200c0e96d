"""The commands against real servers: what they print, how they end, and what they leave."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers.commands import COMMAND, PipelineFolder, Running, environment
from tests.servers.database import Database, is_same
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    """A pipeline over two tables, 1,000 rows each."""
    source_db.execute(
        "CREATE TABLE customers (id int PRIMARY KEY, name text);"
        "CREATE TABLE orders (id int PRIMARY KEY, amount numeric(12, 2));"
        "INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 1000) g;"
        "INSERT INTO orders SELECT g, g * 1.5 FROM generate_series(1, 1000) g"
    )
    return pipeline_dir


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except OSError:
        return 0, ""


def until_live(cdcflow: Call, tables: int) -> None:
    def live() -> bool:
        done = cdcflow("status", "--json")
        found = json.loads(done.stdout)["tables"] if done.returncode == 0 else []
        return len(found) == tables and all(table["state"] == "live" for table in found)

    until(live, what="every table is live")


def test_run_until_caught_up_copies_ends_with_0_and_prints_a_summary(
    shop: PipelineFolder, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    done = cdcflow("run", "--until-caught-up", "--json", exit_code=0)
    found = json.loads(done.stdout)
    assert found["rows_copied"] == 2000
    assert found["tables"] == {"public.customers": "live", "public.orders": "live"}
    assert found["failed"] == {}
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", found["position"])
    source_db.execute("UPDATE orders SET amount = 7 WHERE id <= 3")
    again = json.loads(cdcflow("run", "--until-caught-up", "--json", exit_code=0).stdout)
    assert (again["rows_copied"], again["changes_applied"], again["transactions"]) == (0, 3, 1)
    assert is_same(source_db, target_db, "orders")


def test_a_summary_for_people_is_one_line_on_stderr(shop: PipelineFolder, cdcflow: Call) -> None:
    done = cdcflow("run", "--until-caught-up", exit_code=0)
    assert done.stdout == ""
    assert re.search(r"^copied 2,000 rows \([\d.]+ kB\) in [\d.]+ s, at [0-9A-F/]+$", done.stderr, re.M)


def test_snapshot_then_stream_is_the_same_as_run(
    shop: PipelineFolder, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    early = cdcflow("stream", "--until-caught-up", exit_code=2)
    assert "not copied yet" in early.stderr
    assert json.loads(cdcflow("snapshot", "--json", exit_code=0).stdout)["rows_copied"] == 2000
    source_db.execute("DELETE FROM orders WHERE id > 500")
    cdcflow("stream", "--until-caught-up", exit_code=0)
    assert is_same(source_db, target_db, "orders")
    assert is_same(source_db, target_db, "customers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_0(
    shop: PipelineFolder,
    cdcflow: Call,
    running: Start,
    source_db: Database,
    target_db: Database,
    number: signal.Signals,
) -> None:
    process = running("run")
    until_live(cdcflow, 2)
    source_db.execute("INSERT INTO orders SELECT g, 1 FROM generate_series(2001, 3000) g")
    until(lambda: target_db.value("SELECT count(*) FROM orders") == 2000, what="the rows arrive")
    process.process.send_signal(number)
    assert process.wait() == 0
    assert "stopping" in process.log()
    assert "applied 1,000 changes" in process.log()


def test_status_says_where_everything_is_while_a_pipeline_runs_and_when_none_does(
    shop: PipelineFolder, cdcflow: Call, running: Start
) -> None:
    before = json.loads(cdcflow("status", "--json", exit_code=0).stdout)
    assert (before["position"], before["tables"]) == ("", [])
    assert "nothing was copied" in cdcflow("status", exit_code=0).stdout
    process = running("run")
    until_live(cdcflow, 2)
    while_it_runs = json.loads(cdcflow("status", "--json", exit_code=0).stdout)
    assert while_it_runs["running"] is True
    process.terminate()
    assert process.wait() == 0
    after = json.loads(cdcflow("status", "--json", exit_code=0).stdout)
    assert after["running"] is False
    assert after["pipeline"] == shop.name
    assert after["lag_bytes"] >= 0
    assert after["retained_bytes"] >= 0
    assert {table["source"]: table["rows"] for table in after["tables"]} == {
        "public.customers": 1000,
        "public.orders": 1000,
    }
    text = cdcflow("status", exit_code=0).stdout
    assert re.search(r"public\.orders +public\.orders +live +1,000", text)
    assert re.search(r"^running +no$", text, re.M)


def test_check_ends_with_0_where_nothing_blocks_and_names_what_it_saw(shop: PipelineFolder, cdcflow: Call) -> None:
    found = json.loads(cdcflow("check", "--json", exit_code=0).stdout)
    assert found["ok"] is True
    assert {"source.wal_level", "source.version"} <= {finding["name"] for finding in found["findings"]}
    assert "nothing blocks: cdcflow run" in cdcflow("check", exit_code=0).stdout


def test_check_ends_with_3_and_the_statement_that_mends_a_blocker(
    shop: PipelineFolder, cdcflow: Call, source_db: Database
) -> None:
    source_db.execute("CREATE TABLE keyless (a int)")
    done = cdcflow("check", exit_code=3)
    first, mend = done.stdout.splitlines()[:2]
    assert re.match(r"blocker +table +table public\.keyless ", first)
    assert 'do: ALTER TABLE "public"."keyless"' in mend
    found = json.loads(cdcflow("check", "--json", exit_code=3).stdout)
    assert (found["ok"], found["blockers"]) == (False, 1)


def test_a_second_instance_stops_with_5_and_says_who_runs_also_where_both_would_serve_metrics(
    shop: PipelineFolder, cdcflow: Call, running: Start
) -> None:
    shop.write_config(http={"listen": f"127.0.0.1:{free_port()}"})
    process = running("run")
    until_live(cdcflow, 2)
    done = cdcflow("run", exit_code=5)
    assert "another instance" in done.stderr
    assert str(process.pid) in done.stderr
    error = json.loads(cdcflow("run", "--json", exit_code=5).stderr.splitlines()[-1])
    assert (error["kind"], error["exit_code"]) == ("Fenced", 5)


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
        asleep = heard.count("WATCHDOG=1")
        assert not threading.Event().wait(2)
        assert heard.count("WATCHDOG=1") <= asleep + 1  # one may have been on its way
        process.resume()
        until(lambda: heard.count("WATCHDOG=1") > asleep + 1, what="signs of life again")
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


def test_json_logs_are_one_object_a_line_and_hold_no_password(
    shop: PipelineFolder, cdcflow: Call, source_db: Database
) -> None:
    shop.through(source=with_password(shop.source_url), target=with_password(shop.target_url))
    done = cdcflow("run", "--until-caught-up", "--log-format", "json", "--log-level", "debug", exit_code=0)
    entries = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {"time", "level", "event"} <= set.intersection(*(set(entry) for entry in entries))
    assert any(entry["event"] == "table copied" and entry["table"] == "public.orders" for entry in entries)
    assert "p%40ss" not in done.stderr
    assert "p@ss" not in done.stderr


def with_password(url: str) -> str:
    """The servers trust everybody, so a password changes nothing but what could leak."""
    scheme, rest = url.split("://", 1)
    user, place = rest.split("@", 1)
    return f"{scheme}://{user.partition(':')[0]}:p%40ss@{place}"


def test_a_server_that_is_away_ends_with_75(shop: PipelineFolder, cdcflow: Call) -> None:
    shop.through(source=f"postgresql://postgres@127.0.0.1:{free_port()}/none")
    done = cdcflow("check", exit_code=75)
    assert "127.0.0.1" in done.stderr
    assert "refused" in done.stderr.lower()


@pytest.fixture
def terminal(shop: PipelineFolder) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs a command on a pseudo-terminal, answers its questions, and returns exit code and screen."""

    def run(*words: str, answer: str = "") -> tuple[int, str]:
        master, slave = os.openpty()
        process = subprocess.Popen(
            [*COMMAND, *words],
            cwd=shop.path,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment(), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(slave)
        seen = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the command has closed its side
                break
            seen += piece
            if answer and b"[y/N]" in seen:
                os.write(master, answer.encode() + b"\n")
                answer = ""
        os.close(master)
        return process.wait(60), seen.decode()

    return run


def test_a_terminal_shows_bars_and_ends_with_a_clean_screen(
    terminal: Callable[..., tuple[int, str]], target_db: Database
) -> None:
    code, screen = terminal("run", "--until-caught-up")
    assert code == 0
    assert "━" in screen
    assert "copied 2,000 rows" in screen
    assert screen.count("\x1b[?25h") >= 1  # the cursor is shown again
    assert target_db.value("SELECT count(*) FROM orders") == 1000


def test_teardown_asks_a_person_and_does_nothing_without_a_yes(
    terminal: Callable[..., tuple[int, str]], cdcflow: Call, source_db: Database
) -> None:
    cdcflow("run", "--until-caught-up", exit_code=0)
    code, screen = terminal("teardown", answer="n")
    assert code == 130
    assert "Drop the state of pipeline" in screen
    assert len(source_db.slots()) == 1
    code, _ = terminal("teardown", answer="y")
    assert code == 0
    assert source_db.slots() == []


def test_the_python_interface_does_what_the_command_does(
    shop: PipelineFolder, source_db: Database, target_db: Database
) -> None:
    script = (
        "from cdcflow import Pipeline\n"
        "report = Pipeline.from_file('cdcflow.yaml').run(until_caught_up=True)\n"
        "print(report.rows_copied, sorted(report.tables.values()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=shop.path, capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.stdout == "2000 ['live', 'live']\n", done.stderr
    assert done.stderr == ""
    assert is_same(source_db, target_db, "orders")
