"""Two databases of any engines with a pipeline between them, at least one of them MySQL or MariaDB."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.commands import Commands, PipelineFolder, Running
from tests.servers.database import drop_database, make_database
from tests.servers.fleet import Fleet
from tests.servers.mysql_database import DROP_LIMIT_SECONDS, MysqlDatabase, drop_mysql_database, make_mysql_database

_numbers = itertools.count(1)

ENGINES = ("mysql", "mariadb", "postgres", "sqlite")


class File:
    """A SQLite file as a person reads it."""

    def __init__(self, path: Path) -> None:
        self.path, self.url = path, f"sqlite:///{path.name}"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


@dataclass(slots=True)
class Pair:
    """A source, a target, the pipeline between them; `engines` as in `mysql-postgres`."""

    source: Any
    target: Any
    folder: PipelineFolder
    commands: Commands
    engines: tuple[str, str]
    outputs: list[str] = field(default_factory=list)

    @property
    def schema(self) -> str:
        """The schema of the source's tables, here and there."""
        return "public" if self.engines[0] == "postgres" else self.source.name

    def run(self, exit_code: int | None = 0) -> str:
        """`cdcflow run --until-caught-up`; return what it printed."""
        done = self.commands.call("run", "--until-caught-up", exit_code=exit_code)
        self.outputs.append(done.stdout + done.stderr)
        return self.outputs[-1]

    def start(self) -> Running:
        """`cdcflow run` in the background."""
        return self.commands.start("run")

    def name(self, table: str, schema: str = "") -> str:
        """Return a table's name at the target, for SQL."""
        schema = schema or self.schema
        if self.engines[1] == "sqlite":
            return quoted(table)
        mark = '"' if self.engines[1] == "postgres" else "`"
        return f"{quoted(schema, mark)}.{quoted(table, mark)}"

    def there(self, table: str, columns: str = "*", order: str = "1") -> list[tuple[Any, ...]]:
        """Return a table's rows at the target, in order."""
        query: list[tuple[Any, ...]] = self.target.query(f"SELECT {columns} FROM {self.name(table)} ORDER BY {order}")
        return query


def quoted(name: str, mark: str = '"') -> str:
    """Quote a name for SQL."""
    return mark + name.replace(mark, mark * 2) + mark


@contextmanager
def pair(folder: Path, fleet: Fleet, engines: str, *, version: str = "") -> Iterator[Pair]:
    """Two fresh databases and a pipeline of every table of the source's: `mysql-postgres`, `postgres-mariadb`, ..."""
    here, _, there = engines.partition("-")
    with ExitStack() as stack:
        source = _database(stack, fleet, here, "source", folder, version)
        target = _database(stack, fleet, there, "target", folder, "")
        if isinstance(source, MysqlDatabase) and isinstance(target, MysqlDatabase):
            stack.callback(_drop, target, source.name)
        elif isinstance(target, MysqlDatabase):
            stack.callback(_drop, target, "public")
        commands = Commands(folder)
        stack.callback(commands.end)
        name = f"p{os.getpid()}_{next(_numbers)}"
        schema = "public" if here == "postgres" else source.name
        made = PipelineFolder(folder, name, source.url, target.url).write_config().write_rules(f"{schema}.*")
        yield Pair(source, target, made, commands, (here, there))


def _database(stack: ExitStack, fleet: Fleet, engine: str, role: str, folder: Path, version: str) -> Any:
    if engine == "sqlite":
        return File(folder / "copy.db")
    if engine == "postgres":
        database = make_database(fleet.postgres(18, role), label=role)
        stack.callback(drop_database, database)
        return database
    if engine == "mysql":
        server = fleet.mysql(version, role) if version else fleet.mysql(role=role)
    else:
        server = fleet.mariadb(role, version=version) if version else fleet.mariadb(role)
    made = make_mysql_database(server, label=role)
    stack.callback(drop_mysql_database, made)
    return made


def _drop(target: MysqlDatabase, name: str) -> None:
    target.execute(f"SET lock_wait_timeout = {DROP_LIMIT_SECONDS}; DROP DATABASE IF EXISTS `{name}`")
