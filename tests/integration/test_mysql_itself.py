"""What is refused: a table that would be copied into itself, and one whose log tells more than its rows."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.servers.commands import PipelineFolder
from tests.servers.database import Database
from tests.servers.mysql_database import MysqlDatabase


@pytest.mark.parametrize("flavour", ["mysql", "mariadb"])
def test_a_table_is_not_copied_into_itself(
    flavour: str,
    request: pytest.FixtureRequest,
    new_pipeline: Callable[..., PipelineFolder],
    cdcflow: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    source: MysqlDatabase = request.getfixturevalue(f"{flavour}_source_db")
    source.execute("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
    folder = new_pipeline(source, source).write_rules(f"{source.name}.*")
    refused = cdcflow("run", "--until-caught-up", exit_code=2)
    assert "copied into itself" in refused.stderr + refused.stdout
    folder.write_rules(
        {"match": f"{source.name}.*", "to": f"{source.name}.copy_of_{{table}}"},
        {
            "match": f"{source.name}.copy_of_*",
            "exclude": True,
        },
    )
    cdcflow("run", "--until-caught-up", exit_code=0)
    source.execute("INSERT INTO a VALUES (2)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert source.query("SELECT id FROM copy_of_a ORDER BY id") == [(1,), (2,)]


def test_a_table_that_keeps_its_own_history_is_refused(
    mariadb_source_db: MysqlDatabase,
    target_db: Database,
    new_pipeline: Callable[..., PipelineFolder],
    cdcflow: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Also when a table that is followed begins to."""
    source = mariadb_source_db
    source.execute("CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (1, 1), (2, 2)")
    new_pipeline(source, target_db).write_rules(f"{source.name}.*")
    cdcflow("run", "--until-caught-up", exit_code=0)
    source.execute("ALTER TABLE a ADD SYSTEM VERSIONING; DELETE FROM a WHERE id = 1")
    said = cdcflow("run", "--until-caught-up")
    assert said.returncode != 0
    assert "SYSTEM VERSIONING" in said.stdout + said.stderr
    source.execute("ALTER TABLE a DROP SYSTEM VERSIONING")
    cdcflow("resync", f"{source.name}.a", "--yes", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.query(f'SELECT id, v FROM "{source.name}".a') == [(2, 2)]
