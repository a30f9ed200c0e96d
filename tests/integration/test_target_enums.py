"""An enum that gets labels at the source while the pipeline runs: nothing in the log tells of it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.servers.commands import PipelineFolder
from tests.servers.database import Database


def test_rows_with_a_label_that_the_log_does_not_announce_arrive(
    pipeline_dir: PipelineFolder,
    cdcflow: Callable[..., subprocess.CompletedProcess[str]],
    source_db: Database,
    target_db: Database,
) -> None:
    source_db.execute("CREATE TYPE mood AS ENUM ('b'); CREATE TABLE t (id int PRIMARY KEY, m mood)")
    source_db.execute("INSERT INTO t VALUES (1, 'b')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("ALTER TYPE mood ADD VALUE 'a' BEFORE 'b'")
    source_db.execute("INSERT INTO t VALUES (2, 'a')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.query("SELECT id, m::text FROM t ORDER BY m") == [(2, "a"), (1, "b")]


def test_rules_that_say_stop_stop_at_a_new_label(
    pipeline_dir: PipelineFolder,
    cdcflow: Callable[..., subprocess.CompletedProcess[str]],
    source_db: Database,
    target_db: Database,
) -> None:
    pipeline_dir.write_rules("public.*", defaults={"schema_changes": "stop"})
    source_db.execute("CREATE TYPE mood AS ENUM ('b'); CREATE TABLE t (id int PRIMARY KEY, m mood)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source_db.execute("ALTER TYPE mood ADD VALUE 'a'")
    source_db.execute("INSERT INTO t VALUES (2, 'a')")
    assert "public.t" in cdcflow("run", "--until-caught-up", exit_code=5).stderr
    assert target_db.value("SELECT count(*) FROM t") == 0
