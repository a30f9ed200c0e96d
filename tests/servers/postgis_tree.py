"""PostgreSQL with PostGIS as programs, from Debian's packages."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.servers.bus_trees import relink
from tests.servers.mysql_fetch import _unpack_packages, debian_suite
from tests.servers.trees import _placed

# It moves: the cache keeps what it first gave.
SUITE = "sid"
VERSION = 18
PROGRAMS = Path("usr/lib/postgresql") / str(VERSION)


def postgis_tree() -> tuple[Path, str]:
    """Return the folder with `bin/postgres`, whose extensions PostGIS is among, and where it came from in words.

    Raises:
        ServerMissing: it cannot be fetched; names what is missing on this machine.
    """
    return _placed(f"postgresql-{VERSION}-postgis", _fill) / PROGRAMS, f"Debian {SUITE} postgresql-{VERSION}-postgis-3"


def _fill(into: Path) -> None:
    _unpack_packages(into, debian_suite(SUITE), [f"postgresql-{VERSION}", f"postgresql-{VERSION}-postgis-3"])
    relink(into, into / PROGRAMS / "bin")
    # The package lets the system choose among releases of PostGIS; here there is one.
    extensions = into / "usr" / "share" / "postgresql" / str(VERSION) / "extension"
    shutil.copy(extensions / "postgis-3.control", extensions / "postgis.control")
