"""A MySQL or MariaDB server that is source and target: never a table into itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.servers.commands import PipelineFolder
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
