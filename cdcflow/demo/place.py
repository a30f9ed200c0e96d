"""The demo's folder: its servers, a config that a person can go on with, and how all of it goes away again."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cdcflow.demo import mysqld, programs
from cdcflow.demo.cluster import Cluster, create, free_port, reachable_home
from cdcflow.demo.mysqld import MysqlServer
from cdcflow.demo.shop import Shop
from cdcflow.demo.shop_mysql import MysqlShop
from cdcflow.demo.shop_postgres import PostgresShop, make_database
from cdcflow.engines.mysql.connect import SCHEMES
from cdcflow.engines.mysql.connect import address as mysql_address
from cdcflow.engines.mysql.names import ident
from cdcflow.errors import CdcflowError, UsageError

DEFAULT_FOLDER: Final = "cdcflow-demo"
DATABASE: Final = "shop"
PIPELINE: Final = "shop"
# What `--source` may be, besides the URL of a MySQL or MariaDB.
ENGINES: Final = ("postgresql", "mysql", "mariadb")

_MARK: Final = "demo.json"
_MADE: Final = ("cdcflow.yaml", "rules.yaml", "run.log", "source.password", "target.password", _MARK)

# Small machines carry both servers. Commit times are kept so that the lag can be read from both afterwards.
_SETTINGS: Final = {
    "wal_level": "logical",
    "shared_buffers": "128MB",
    "max_connections": "40",
    "track_commit_timestamp": "on",
    "max_wal_size": "2GB",
}

_CONFIG: Final = """\
# The demo's pipeline: it copies the shop's tables, then follows them. `cdcflow demo --down` removes it, its servers
# and the shop.
pipeline: {pipeline}
source:
  url: {source}
  snapshot: {{chunk: 512kB}} # small pieces, so that the bars move; leave it out for real tables
target:
  url: {target}
rules: rules.yaml
http:
  listen: 127.0.0.1:{port} # metrics and health, while `cdcflow run` runs
"""

_RULES: Final = """\
# Which tables are followed, and how. Later rules override earlier ones, key by key.
version: 1
tables:
  - match: "{schema}.*"

  # Some things to try, then `cdcflow run` again:
  #
  # - match: {schema}.events
  #   exclude: true
  # - match: {schema}.orders
  #   on_delete: ignore
  # - match: {schema}.customers
  #   to: crm.customers
  #   columns: {{exclude: [credit], rename: {{name: full_name}}}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A demo on disk. `shop` is the source's database, `copy` the one it is copied into."""

    folder: Path
    source: Cluster | MysqlServer
    target: Cluster
    shop: Shop
    copy: PostgresShop
    http_port: int

    @property
    def config(self) -> Path:
        return self.folder / "cdcflow.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    def fill(self, rows: int) -> dict[str, int]:
        """Make the shop in the source, and an empty database in the target. Returns the rows of each table."""
        make_database(self.target, DATABASE)
        return self.shop.fill(rows)


def build(folder: Path, source: str = "postgresql") -> Place:
    """Make and start the servers and write the config.

    Args:
        source: one of `ENGINES`, or the URL of a MySQL or MariaDB that runs, with a login that may make a database.

    Raises:
        UsageError: the folder holds something else; the database of a URL is there already; there is no such server
            at hand, or the embedded PostgreSQL is not installed.
    """
    folder = folder.resolve()
    if source not in ENGINES and not source.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise UsageError(
            "--source is none that the demo knows",
            do=f"one of {', '.join(ENGINES)}, or mysql://user:password@host:3306 (mariadb://) of a server that runs",
        )
    if folder.exists():
        if not (folder / _MARK).exists() and any(folder.iterdir()):
            raise UsageError(
                "the demo's folder holds something that is not a demo",
                at=str(folder),
                do=f"cdcflow demo {folder.with_name(DEFAULT_FOLDER + '-2')}",
            )
        remove(folder)
    # Looked for before anything is made.
    found = programs.find("mariadb" if source == "mariadb" else "mysql") if source in ENGINES[1:] else None
    theirs = _named(source) if source not in ENGINES else None
    folder.mkdir(parents=True, exist_ok=True)
    home = reachable_home(folder / "servers")
    notes = _Notes(folder / _MARK, home)
    notes.write()
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    server: Cluster | MysqlServer
    shop: Shop
    if theirs is not None:
        server, shop = theirs.server, theirs
        # Noted before it is made, and a name that was free: it is ours to drop.
        notes.database = {"url": server.url(shop.schema, password="")}
        notes.write()
    elif found is not None:
        notes.homes.append(str(home / "source"))
        notes.write()
        server = mysqld.start(found, home / "source")
        shop = MysqlShop(server, DATABASE)
    else:
        server = notes.cluster("source")
        shop = PostgresShop(server, DATABASE)
    _secret(folder / "source.password", server.password)
    target = notes.cluster("target")
    _secret(folder / "target.password", target.password)
    place = Place(folder, server, target, shop, PostgresShop(target, DATABASE, shop.schema), free_port())
    database = shop.schema if isinstance(shop, MysqlShop) else DATABASE
    urls = {
        "source": server.url(database, password=f"${{file:{folder / 'source.password'}}}"),
        "target": target.url(DATABASE, password=f"${{file:{folder / 'target.password'}}}"),
    }
    place.config.write_text(_CONFIG.format(pipeline=PIPELINE, port=place.http_port, **urls))
    (folder / "rules.yaml").write_text(_RULES.format(schema=shop.schema))
    return place


def remove(folder: Path) -> list[Path]:
    """Stop the servers and delete what the demo made. Returns what stays because somebody else put it there.

    Raises:
        UsageError: there is no demo in the folder.
        CdcflowError: all is gone but the shop's database at a server that a person named, which could not be dropped.
    """
    folder = folder.resolve()
    mark = folder / _MARK
    if not mark.exists():
        if folder.exists() and any(folder.iterdir()):
            raise UsageError("no demo in this folder", at=str(folder))
        if folder.exists():
            folder.rmdir()
        return []
    noted = json.loads(mark.read_text())
    home = Path(noted["home"])
    stays = _drop(folder, noted.get("database"))
    for server in noted["servers"]:
        Cluster(Path(server["home"]), Path(server["binaries"]), server["port"], "").remove()
    for path in noted.get("homes", []):
        mysqld.remove(Path(path))
    if home.exists():
        shutil.rmtree(home)
    if home.parent != folder and home.parent.exists() and not any(home.parent.iterdir()):
        home.parent.rmdir()
    for name in _MADE:
        (folder / name).unlink(missing_ok=True)
    if (folder / ".cdcflow").is_dir():  # the JSON Schemas for editors
        shutil.rmtree(folder / ".cdcflow")
    left = sorted(folder.iterdir())
    if not left:
        folder.rmdir()
    if stays is not None:
        raise stays
    return left


@dataclass(slots=True)
class _Notes:
    """What is needed to remove the demo, written before it is made.

    homes: folders of MySQL servers of ours. database: the shop's at a server that a person named.
    """

    mark: Path
    home: Path
    clusters: list[Cluster] = field(default_factory=list)
    homes: list[str] = field(default_factory=list)
    database: dict[str, str] | None = None

    def write(self) -> None:
        servers = [{"home": str(c.home), "binaries": str(c.binaries), "port": c.port} for c in self.clusters]
        noted = {"home": str(self.home), "servers": servers, "homes": self.homes, "database": self.database}
        self.mark.touch(mode=0o600)
        self.mark.write_text(json.dumps(noted))

    def cluster(self, name: str) -> Cluster:
        """Make a PostgreSQL and start it."""
        self.clusters.append(create(self.home / name, _SETTINGS))
        self.write()
        self.clusters[-1].start()
        return self.clusters[-1]


def _named(url: str) -> MysqlShop:
    """Return the shop at a server that a person named; its database is not there yet."""
    mysql_address(url)  # says what is wrong with it
    server, database = mysqld.named(url)
    shop = MysqlShop(server, database or DATABASE)
    if shop.exists():
        raise UsageError(
            f"the server has a database {shop.schema} already",
            at=server.base,
            why="the demo makes its shop in a database of its own, and drops it with --down",
            do="put the name of a database that is not there behind the URL: ..:3306/cdcflow_demo",
        )
    return shop


def _drop(folder: Path, noted: dict[str, str] | None) -> CdcflowError | None:
    """Drop the shop's database at a server that a person named; return why it stays."""
    if noted is None:
        return None
    word = folder / "source.password"
    server, database = mysqld.named(noted["url"])
    password = word.read_text() if word.exists() else ""
    try:
        MysqlShop(replace(server, password=password), database).drop()
    except CdcflowError as error:
        return CdcflowError(
            f"the demo is removed, but its database {database} could not be dropped",
            at=server.base,
            why=error.what,
            do=f"DROP DATABASE {ident(database)}",
        )
    return None


def _secret(path: Path, word: str) -> None:
    path.touch(mode=0o600)
    path.write_text(word)
