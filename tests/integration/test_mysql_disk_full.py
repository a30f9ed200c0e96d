"""The disk of a MySQL or MariaDB target runs full while rows are copied or changes followed: nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.integration.test_disk_full import FULL, SHOP, mounted, rows, transfer, until_told
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database
from tests.servers.mysql_database import MysqlDatabase, make_mysql_database
from tests.servers.mysql_server import MysqlServer
from tests.servers.small_disk import SmallDisk
from tests.servers.waiting import until

Start = Callable[..., Running]

STATE = "SELECT count(*), sum(id), sum(length(pad)), sum(CASE pad WHEN 'changed' THEN id ELSE 0 END) FROM {table}"


@pytest.fixture(params=["mysql", "mariadb"])
def small(
    request: pytest.FixtureRequest, new_mysql_server: Callable[..., MysqlServer]
) -> Iterator[tuple[MysqlDatabase, SmallDisk]]:
    """A database whose tables lie on a small disk; the rest of the server does not."""
    with mounted(8) as disk:
        server = new_mysql_server(request.param)
        database = make_mysql_database(server, label="target")
        folder = server.folder / "data" / database.name
        for each in folder.iterdir():
            shutil.copy(each, disk.path)
            shutil.chown(disk.path / each.name, folder.stat().st_uid, folder.stat().st_gid)
        subprocess.run(["mount", "--bind", str(disk.path), str(folder)], check=True)
        try:
            yield database, disk
        finally:
            database.close()
            server.stop()
            subprocess.run(["umount", str(folder)], check=True)


def until_same(process: Running, source: Database, target: MysqlDatabase) -> None:
    def equal() -> bool:
        assert not process.ended, process.output()[-4000:]
        return all(
            [tuple(map(str, row)) for row in source.query(STATE.format(table=table))]
            == [tuple(map(str, row)) for row in target.query(STATE.format(table=table))]
            for table in ("keyed", "keyless")
        ) and source.query("SELECT half, amount FROM totals ORDER BY 1") == list(
            target.query("SELECT half, amount FROM totals ORDER BY 1")
        )

    until(equal, limit=90, what="both sides are the same")


def test_a_full_disk_is_waited_for_in_the_copy_and_in_the_stream(
    small: tuple[MysqlDatabase, SmallDisk],
    source_db: Database,
    new_pipeline: Callable[..., PipelineFolder],
    running: Start,
) -> None:
    target, disk = small
    source_db.execute(SHOP)
    source_db.execute(rows(1, 20_000))
    folder = new_pipeline(source_db, target)
    folder.write_config(source={"url": folder.source_url, "snapshot": {"chunk": "1MB"}})
    folder.write_rules({"match": "public.*", "to": f"{target.name}.{{table}}"})
    process = running("run")
    until_told(process, 2)
    source_db.execute(f"{rows(20_001, 21_000)}; DELETE FROM keyed WHERE id % 10 = 0; {transfer(5)}")
    disk.grow(100)
    until_same(process, source_db, target)

    disk.fill()
    told = process.log().count(FULL)
    for amount in range(1, 5):
        source_db.execute(f"BEGIN; {transfer(amount)}; {rows(amount * 100_000, amount * 100_000 + 4999)}; COMMIT")
    until_told(process, told + 1)
    assert target.value("SELECT sum(amount) FROM totals") == 0
    applied, whole = target.query("SELECT count(*), count(*) DIV 5000 * 5000 FROM keyed WHERE id >= 100000")[0]
    assert applied == whole < 20_000
    source_db.execute("UPDATE keyed SET pad = 'changed' WHERE id <= 50; DELETE FROM keyless WHERE id <= 20")
    disk.free()
    disk.grow(200)
    until_same(process, source_db, target)
    process.terminate()
    assert process.wait() == 0, process.output()
