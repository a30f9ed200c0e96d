"""What `cdcflow check` looks at in a SQLite target."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cdcflow.engines.sqlite.connect import connect
from cdcflow.engines.sqlite.errors import translate
from cdcflow.errors import CdcflowError, ConfigError
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Route
from cdcflow.targets.sqlite import catalog
from cdcflow.targets.sqlite.compare import problems
from cdcflow.targets.sqlite.names import collision, folded, ident, refuse_names, table_of

# DROP COLUMN came with 3.35, pragma_table_list with 3.37.
OLDEST: Final = (3, 37, 0)

_SPARE_BYTES: Final = 1024 * 1024 * 1024


def findings(path: Path, routes: Sequence[Route], pipeline: str) -> list[Finding]:
    """Look at the library, the folder, the file and every routed table; change nothing."""
    found = [_library(), *_folder(path)]
    if any(each.level is Level.BLOCKER for each in found):
        return found
    found += [_space(path, routes), *_names(routes)]
    if path.exists():
        found += _file(path, routes, pipeline)
    else:
        found.append(_ok("target.file", str(path), "will be made"))
    return found


def _library() -> Finding:
    name, subject = "target.version", "SQLite library"
    if sqlite3.sqlite_version_info < OLDEST:
        do = "run cdcflow with a Python whose sqlite3 module is newer"
        return Finding(Level.BLOCKER, name, subject, f"SQLite {sqlite3.sqlite_version} is too old", do)
    return _ok(name, subject, f"SQLite {sqlite3.sqlite_version}")


def _folder(path: Path) -> Iterator[Finding]:
    folder = path.absolute().parent
    if not folder.is_dir():
        yield Finding(Level.BLOCKER, "target.folder", str(folder), "there is no such folder", f"mkdir -p {folder}")
    elif not os.access(folder, os.W_OK | os.X_OK):
        found = "the user that runs cdcflow may not write to it, and SQLite makes files beside its own"
        yield Finding(Level.BLOCKER, "target.folder", str(folder), found, f"chown $USER {folder}")
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        found = "the user that runs cdcflow may not write to it"
        yield Finding(Level.BLOCKER, "target.file", str(path), found, f"chown $USER {path}")
    else:
        yield _ok("target.folder", str(folder), "can be written to")


def _space(path: Path, routes: Sequence[Route]) -> Finding:
    free = shutil.disk_usage(path.absolute().parent).free
    wanted = sum(route.source.bytes for route in routes)
    words = f"{free // 1_000_000:,} MB are free; the source's tables have {wanted // 1_000_000:,} MB"
    if free < wanted + _SPARE_BYTES // 8 and not path.exists():
        do = "free space on the disk, or leave tables out in the rules"
        return Finding(Level.WARNING, "target.space", str(path.absolute().parent), words, do)
    return _ok("target.space", str(path.absolute().parent), words)


def _names(routes: Sequence[Route]) -> Iterator[Finding]:
    seen: dict[str, Route] = {}
    for route in routes:
        try:
            refuse_names(route)
            other = seen.setdefault(folded(table_of(route)), route)
            if other is not route:
                raise collision(route, str(other.source.name))
        except ConfigError as error:
            yield Finding(Level.BLOCKER, "target.name", table_of(route), f"{error.what}: {error.why}", error.do)


def _file(path: Path, routes: Sequence[Route], pipeline: str) -> Iterator[Finding]:
    try:
        connection = connect(path, make=False)
    except sqlite3.Error as error:
        yield _refused(translate(error, at=str(path)), path)
        return
    try:
        yield from _inside(connection, path, routes, pipeline)
    except sqlite3.Error as error:
        yield _refused(translate(error, at=str(path)), path)
    finally:
        connection.close()


def _inside(connection: sqlite3.Connection, path: Path, routes: Sequence[Route], pipeline: str) -> Iterator[Finding]:
    yield _ok("target.file", str(path), "is a SQLite database")
    recorded = _records(connection)
    ours = {folded(name) for owner, name in recorded if owner == pipeline}
    for route in routes:
        table = catalog.table(connection, table_of(route))
        if table is None:
            yield _ok("target.table", table_of(route), f"will be made like {route.source.name}")
            continue
        found = [Finding(Level.BLOCKER, each.name, table.name, each.what, each.do) for each in problems(route, table)]
        if not table.made_by or not found:
            yield from found
        if not found:
            yield _ok("target.table", table.name, f"is there and fits {route.source.name}")
            if (
                folded(table.name) not in ours
                and connection.execute(f"SELECT 1 FROM {ident(table.name)} LIMIT 1").fetchone()
            ):
                words = "holds rows already, and this pipeline has not copied it yet: "
                words += "equal keys stop its copy" if route.key else "without a key its rows will be there twice"
                do = f"DELETE FROM {ident(table.name)}, unless other rows belong there"
                yield Finding(Level.WARNING, "target.rows", table.name, words, do)
    targets = {folded(table_of(route)) for route in routes}
    for owner, name in recorded:
        if owner != pipeline and folded(name) in targets:
            do = "give one of them another file, or another table with `to:`, or forget the other with"
            do += f" `cdcflow teardown`, whose `pipeline:` is {owner}"
            yield Finding(
                Level.WARNING, "target.shared", name, f"pipeline {owner} writes it too; the later writer wins", do
            )


def _records(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    if catalog.table(connection, "cdcflow_tables") is None:
        return []
    return connection.execute("SELECT pipeline, target_table FROM cdcflow_tables ORDER BY 1, 2").fetchall()


def _refused(error: CdcflowError, path: Path) -> Finding:
    return Finding(Level.BLOCKER, "target.file", str(path), f"{error.what}: {error.why}", error.do)


def _ok(name: str, subject: str, found: str) -> Finding:
    return Finding(Level.OK, name, subject, found)
