"""Where the demo finds a MySQL or MariaDB to start: the trees that the tests keep in `CDCFLOW_CACHE`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cdcflow.errors import UsageError

Flavour = Literal["mysql", "mariadb"]

# Newest first; names of folders in the cache. Beside each lies `<name>-data`, a data folder to copy.
_TREES: Final[dict[Flavour, tuple[str, ...]]] = {
    "mysql": ("mysql-9.7", "mysql-8.0"),
    "mariadb": ("mariadb-11.8", "mariadb-11.4"),
}
_SERVERS: Final[dict[Flavour, str]] = {"mysql": "mysqld", "mariadb": "mariadbd"}
_WORDS: Final[dict[Flavour, str]] = {"mysql": "MySQL", "mariadb": "MariaDB"}
# Trees out of jars bring no C library and take this one.
_LIBRARIES: Final = "mysql-libraries"


@dataclass(frozen=True, slots=True)
class Programs:
    """A server that can be started: its command line without data folder and settings, and a data folder to copy."""

    flavour: Flavour
    version: str
    command: tuple[str, ...]
    template: Path

    @property
    def words(self) -> str:
        return f"{_WORDS[self.flavour]} {self.version}"


def cache_folder() -> Path:
    """Return where the tests keep their servers, which need not exist."""
    named = os.environ.get("CDCFLOW_CACHE")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/cdcflow")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cdcflow"


def find(flavour: Flavour) -> Programs:
    """Return the newest server of a flavour that the cache has.

    Raises:
        UsageError: there is none; says how to name one or how to get one.
    """
    cache = cache_folder()
    for name in _TREES[flavour]:
        found = _tree(cache, name, flavour)
        if found is not None:
            return found
    words = _WORDS[flavour]
    raise UsageError(
        f"there is no {words} at hand to start",
        at=str(cache),
        why="the demo brings PostgreSQL along, but no other server; it starts those that the tests have fetched",
        do=f"cdcflow demo --source {flavour}://root:password@127.0.0.1:3306, for a server that runs,"
        " or `make test` in a checkout, which fetches one; CDCFLOW_CACHE names another folder",
    )


def _tree(cache: Path, name: str, flavour: Flavour) -> Programs | None:
    root, template = cache / name, cache / f"{name}-data" / "data"
    program = next(
        iter(sorted(root.glob(f"**/bin/{_SERVERS[flavour]}")) + sorted(root.glob(f"**/sbin/{_SERVERS[flavour]}"))), None
    )
    if program is None or not template.is_dir():
        return None
    base = program.parent.parent
    own = base.name == "usr"
    share = base / "share" / flavour if own else base / "share"
    plugins = base / "lib" / "mysql" / "plugin" if own else base / "lib" / "plugin"
    libraries = root if own else cache / _LIBRARIES
    loader = next(iter(sorted(libraries.glob("**/*-linux-gnu/ld-linux-*.so.*"))), None)
    if loader is None:
        return None
    folders = [program.parent] if not own else []
    folders += [*sorted(libraries.glob("lib/*-linux-gnu")), *sorted(libraries.glob("usr/lib/*-linux-gnu"))]
    folders += [folder / "mysql" / "private" for folder in folders if (folder / "mysql" / "private").is_dir()]
    return Programs(
        flavour,
        name.partition("-")[2],
        (
            *(str(loader), "--library-path", ":".join(map(str, folders)), str(program)),
            *("--no-defaults", f"--basedir={base}", f"--plugin-dir={plugins}"),
            *(f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}"),
            "--secure-file-priv=",  # Debian's build aborts without its own folder for this
        ),
        template,
    )
