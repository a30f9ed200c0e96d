"""A binary log that is encrypted on disk: the server decrypts it for its readers, also from before a restart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.commands import PipelineFolder
from tests.servers.database import Database
from tests.servers.fleet import MARIADB, MYSQL, skip_if_left_out
from tests.servers.mysql_database import MysqlDatabase
from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_trees import Flavour, Tree, mariadb_plugins, tree_of
from tests.servers.session import Session

COMPONENT = "component_keyring_file"


@pytest.fixture(params=["mysql", "mariadb"])
def encrypting(request: pytest.FixtureRequest) -> Iterator[MysqlServer]:
    """A server that has keys and encrypts its binary logs with one."""
    flavour: Flavour = request.param
    version = MYSQL if flavour == "mysql" else MARIADB
    skip_if_left_out(flavour, version)
    session = Session()
    own = session.path / "encrypting"
    tree = tree_of(flavour, version)
    server = with_keyring(tree, own) if flavour == "mysql" else with_key_file(tree, own)
    try:
        yield server.start()
    finally:
        server.remove()
        session.remove()


def with_keyring(tree: Tree, own: Path) -> MysqlServer:
    """Return MySQL with a keyring. What it reads beside its program and plugin lies beside links to them."""
    program = Path(tree.command("mysqld")[-1])
    for folder in (own, own / "bin", own / "plugins"):
        folder.mkdir()
        folder.chmod(0o755)
    (own / "bin" / "mysqld").symlink_to(program)
    shutil.copy(tree.plugins / f"{COMPONENT}.so", own / "plugins")
    (own / "bin" / "mysqld.my").write_text(json.dumps({"components": f"file://{COMPONENT}"}))
    keyring = own / "keys" / "keyring"
    keyring.parent.mkdir()
    keyring.parent.chmod(0o777)
    (own / "plugins" / f"{COMPONENT}.cnf").write_text(json.dumps({"path": str(keyring), "read_only": False}))
    tree = replace(tree, programs=(own / "bin", *tree.programs), plugins=own / "plugins")
    return MysqlServer(tree, own / "server", settings={"binlog-encryption": "ON"})


def with_key_file(tree: Tree, own: Path) -> MysqlServer:
    """Return MariaDB with the plugin that has its keys in a file."""
    own.mkdir()
    own.chmod(0o755)
    keys = own / "keys"
    keys.write_text(f"1;{'0123456789abcdef' * 4}\n")
    keys.chmod(0o644)
    tree = replace(tree, plugins=mariadb_plugins())
    plugin = {"plugin-load-add": "file_key_management", "loose-file-key-management-filename": str(keys)}
    return MysqlServer(tree, own / "server", settings={**plugin, "encrypt-binlog": "ON"})


def test_encrypted_log_is_followed(
    encrypting: MysqlServer,
    new_mysql_database: Callable[..., MysqlDatabase],
    new_pipeline: Callable[..., PipelineFolder],
    target_db: Database,
    cdcflow: Callable[..., object],
) -> None:
    source = new_mysql_database(encrypting, "source")
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50)); INSERT INTO t VALUES (1, 'a plain word')")
    new_pipeline(source, target_db).write_rules({"match": f"{source.name}.*", "to": "public.{table}"})
    cdcflow("run", "--until-caught-up", exit_code=0)
    source.execute("UPDATE t SET v = 'another word'; INSERT INTO t VALUES (2, 'a second word'); FLUSH BINARY LOGS")
    source.execute("ALTER TABLE t ADD COLUMN w int; INSERT INTO t VALUES (3, 'a third word', 3)")
    logs = list((encrypting.folder / "data").glob("binlog.0*"))
    if source.server.flavour == "mysql":  # type: ignore[attr-defined]
        assert [encrypted for *_, encrypted in source.query("SHOW BINARY LOGS")] == ["Yes"] * len(logs)
    assert len(logs) > 1
    assert not [path for path in logs if b"word" in path.read_bytes()]
    encrypting.restart()
    source.execute("DELETE FROM t WHERE id = 2")
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.query("SELECT * FROM t ORDER BY 1") == [(1, "another word", None), (3, "a third word", 3)]
