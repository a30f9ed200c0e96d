"""Kafka, Apicurio Registry and RabbitMQ as programs: from Maven, and from Debian's packages."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from tests.servers.cache import ServerMissing, cache_folder, only_one
from tests.servers.mysql_fetch import PACKAGE_LIST, _run, _unpack_packages, debian_suite
from tests.servers.mysql_trees import _loader
from tests.servers.trees import _own_repository, _placed

KAFKA = "4.4.0"
REGISTRY = "3.0.9"  # the last that Java 17 runs
# Without the last one Kafka finds no log4j and logs nothing.
KAFKA_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version></dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version>
    </dependency>
  </dependencies>
</project>
"""
KAFKA_LOGGING = """\
Configuration:
  Appenders: {Console: {name: C, target: SYSTEM_OUT, PatternLayout: {pattern: "%d %p %m (%c)%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: C}}}
"""
REGISTRY_ARTIFACT = f"io.apicurio:apicurio-registry-app:{REGISTRY}:tar.gz:all"
# Debian's suite that has RabbitMQ 4 with quorum queues and streams. It moves: the cache keeps what it first gave.
RABBITMQ_SUITE = "sid"
ERLANG = Path("usr/lib/erlang")
# In place of a program: its own loader and libraries run it. They stand in no variable of the environment, as the
# server starts the host's shell, too. Erlang's scripts name programs by whole paths: the tree may not be moved.
RELINKED = """\
#!/bin/sh
exec "{loader}" --argv0 "$0" --library-path "{libraries}" "{program}.real" "$@"
"""


def kafka_tree() -> tuple[Path, str]:
    """Return the folder with Kafka's jars in `libs` and a `log4j2.yaml`, and where it came from in words.

    Raises:
        ServerMissing: `mvn` is not there or could not fetch it.
    """
    return _placed(f"kafka-{KAFKA}", _fill_kafka), f"Maven kafka_2.13 {KAFKA}"


def registry_tree() -> tuple[Path, str]:
    """Return the folder with Apicurio's runner jar and its `lib`, and where it came from in words.

    Raises:
        ServerMissing: `mvn` is not there or could not fetch it.
    """
    return _placed(f"apicurio-{REGISTRY}", _fill_registry), f"Maven apicurio-registry-app {REGISTRY}"


def rabbitmq_tree() -> tuple[Path, str]:
    """Return the root folder with RabbitMQ and its own Erlang, and where it came from in words.

    Raises:
        ServerMissing: it cannot be fetched; names what is missing on this machine.
    """
    root = _placed("rabbitmq", _fill_rabbitmq)
    unpacked = (line.split("_") for line in (root / PACKAGE_LIST).read_text().splitlines())
    release = next(release for name, release, _ in unpacked if name == "rabbitmq-server")
    return root, f"Debian {RABBITMQ_SUITE} rabbitmq-server {unquote(release)}"


def _maven() -> list[str]:
    program = shutil.which("mvn")
    if program is None:
        raise ServerMissing("Kafka and its schema registry come from Maven and `mvn` is not installed: install maven")
    return [program, *_own_repository(), "-q", "-B", "-ntp"]


def _fill_kafka(into: Path) -> None:
    into.mkdir()
    (into / "pom.xml").write_text(KAFKA_POM)
    (into / "log4j2.yaml").write_text(KAFKA_LOGGING)
    asked = ["-f", str(into / "pom.xml"), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    _run([*_maven(), *asked, f"-DoutputDirectory={into / 'libs'}"], dict(os.environ))


def _fill_registry(into: Path) -> None:
    jars = cache_folder() / "jars"
    packed = jars / f"apicurio-registry-app-{REGISTRY}-all.tar.gz"
    with only_one("jars"):
        asked = ["dependency:copy", f"-Dartifact={REGISTRY_ARTIFACT}", f"-DoutputDirectory={jars}"]
        _run([*_maven(), *asked], dict(os.environ))
        into.mkdir()
        _run(["tar", "xzf", str(packed), "--no-same-owner", "-C", str(into)], dict(os.environ))
        packed.unlink()
    _run(["chmod", "-R", "a+rX", str(into)], dict(os.environ))


def _fill_rabbitmq(into: Path) -> None:
    """Unpack it and let Erlang's programs run with the libraries in it, newer than the host's."""
    _unpack_packages(into, debian_suite(RABBITMQ_SUITE), ["rabbitmq-server"])
    home = relink(into, into / ERLANG)
    start = into / ERLANG / "bin" / "erl"
    start.write_text(re.sub(r"ROOTDIR=\"?/usr/lib/erlang\"?", f"ROOTDIR={home}/{ERLANG}", start.read_text()))


def relink(into: Path, folder: Path) -> str:
    """Let the programs in a folder of the tree `into` run with the tree's own libraries, newer than the host's.

    Returns the name that the tree gets when it is complete: from then on it may not be moved.
    """
    home = str(into).removesuffix(".half")
    loader, _, libraries = (part.replace(str(into), home) for part in _loader(into))
    for program in sorted(_programs(folder)):
        program.rename(program.with_name(program.name + ".real"))
        named = str(program).replace(str(into), home)
        program.write_text(RELINKED.format(loader=loader, libraries=libraries, program=named))
        program.chmod(0o755)
    return home


def _programs(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file() or not path.stat().st_mode & 0o100 or ".so" in path.suffixes:
            continue
        with path.open("rb") as start:
            if start.read(4) == b"\x7fELF":
                yield path
