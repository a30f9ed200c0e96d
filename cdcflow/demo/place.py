"""The demo's folder: two servers, a config that a person can go on with, and how all of it goes away again."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdcflow.demo.cluster import Cluster, create, free_port, reachable_home
from cdcflow.errors import UsageError

DEFAULT_FOLDER: Final = "cdcflow-demo"
DATABASE: Final = "shop"
PIPELINE: Final = "shop"

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
# The demo's pipeline: it copies the shop's tables, then follows them. Both servers run on this machine until
# `cdcflow demo --down` removes them.
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
  - match: "public.*"

  # Some things to try, then `cdcflow run` again:
  #
  # - match: public.events
  #   exclude: true
  # - match: public.orders
  #   on_delete: ignore
  # - match: public.customers
  #   to: crm.customers
  #   columns: {exclude: [credit], rename: {name: full_name}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A demo on disk."""

    folder: Path
    source: Cluster
    target: Cluster
    http_port: int

    @property
    def config(self) -> Path:
        return self.folder / "cdcflow.yaml"

    @property
    def log(self) -> Path:
        return self.folder / "run.log"


def build(folder: Path) -> Place:
    """Make and start both servers and write the config.

    Raises:
        UsageError: the folder holds something else, or the embedded PostgreSQL is not installed.
    """
    folder = folder.resolve()
    if folder.exists():
        if not (folder / _MARK).exists() and any(folder.iterdir()):
            raise UsageError(
                "the demo's folder holds something that is not a demo",
                at=str(folder),
                do=f"cdcflow demo {folder.with_name(DEFAULT_FOLDER + '-2')}",
            )
        remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    home = reachable_home(folder / "servers")
    mark = folder / _MARK
    mark.touch(mode=0o600)
    mark.write_text(json.dumps({"home": str(home), "servers": []}))
    clusters: list[Cluster] = []
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    for name in ("source", "target"):
        clusters.append(create(home / name, _SETTINGS))
        _note(mark, home, clusters)
        clusters[-1].start()
    source, target = clusters
    place = Place(folder, source, target, free_port())
    urls = {}
    for name, cluster in (("source", source), ("target", target)):
        word = folder / f"{name}.password"
        word.touch(mode=0o600)
        word.write_text(cluster.password)
        urls[name] = cluster.url(DATABASE, password=f"${{file:{word}}}")
    place.config.write_text(_CONFIG.format(pipeline=PIPELINE, port=place.http_port, **urls))
    (folder / "rules.yaml").write_text(_RULES)
    return place


def remove(folder: Path) -> list[Path]:
    """Stop the servers and delete what the demo made. Returns what stays because somebody else put it there.

    Raises:
        UsageError: there is no demo in the folder.
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
    for server in noted["servers"]:
        Cluster(Path(server["home"]), Path(server["binaries"]), server["port"], "").remove()
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
    return left


def _note(mark: Path, home: Path, clusters: list[Cluster]) -> None:
    """Keep what is needed to remove the servers, before they run."""
    servers = [{"home": str(c.home), "binaries": str(c.binaries), "port": c.port} for c in clusters]
    mark.write_text(json.dumps({"home": str(home), "servers": servers}))
