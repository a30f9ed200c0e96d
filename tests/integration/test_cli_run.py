"""The commands against real servers: what they print, how they end, and what they leave."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.cli_shop import Call, Start, fill, until_live
from tests.servers.cluster import free_port
from tests.servers.commands import PipelineFolder, environment
from tests.servers.database import Database, is_same
from tests.servers.waiting import until


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    """A pipeline over two tables, 1,000 rows each."""
    fill(source_db)
    return pipeline_dir


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

    def ended() -> dict[str, Any] | None:
        """The server may see the lease for a moment longer than its owner lives."""
        seen: dict[str, Any] = json.loads(cdcflow("status", "--json", exit_code=0).stdout)
        return None if seen["running"] else seen

    after = until(ended, what="it does not run")
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
