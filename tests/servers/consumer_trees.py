"""Readers of Debezium's topics as programs: Flink SQL, Kafka Connect with Debezium's JDBC sink, ClickHouse."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.servers.bus_trees import KAFKA, _maven
from tests.servers.mysql_fetch import _run
from tests.servers.trees import _placed

FLINK: Final = "2.3.0"
# Made for the last but one release of Flink; there is none for this one.
FLINK_KAFKA, FLINK_JDBC = "5.0.0-2.2", "4.0.0-2.0"
DEBEZIUM: Final = "3.6.0.Final"
HIBERNATE: Final = "7.2.19.Final"
CONVERTER: Final = "2.6.13.Final"
POSTGRES_DRIVER: Final = "42.7.11"
CLICKHOUSE: Final = "26.9.0"

_LOGGING: Final = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
_FLINK: Final = (
    *(
        f"org.apache.flink:{name}:{FLINK}"
        for name in (
            "flink-clients",
            "flink-connector-base",
            "flink-connector-files",
            "flink-json",
            "flink-sql-avro-confluent-registry",
            "flink-sql-gateway",
            "flink-table-api-java-bridge",
            "flink-table-planner-loader",
            "flink-table-runtime",
        )
    ),
    f"org.apache.flink:flink-sql-connector-kafka:{FLINK_KAFKA}",
    f"org.apache.flink:flink-connector-jdbc-postgres:{FLINK_JDBC}",
    f"org.postgresql:postgresql:{POSTGRES_DRIVER}",
    _LOGGING,
)
_CONNECT: Final = (
    f"org.apache.kafka:connect-runtime:{KAFKA}",
    f"org.apache.kafka:connect-json:{KAFKA}",
    f"io.debezium:debezium-connector-jdbc:{DEBEZIUM}",
    f"org.hibernate.orm:hibernate-core:{HIBERNATE}",
    f"org.hibernate.orm:hibernate-agroal:{HIBERNATE}",
    f"io.apicurio:apicurio-registry-utils-converter:{CONVERTER}",
    _LOGGING,
)
# Drivers of databases that are not written to, and a module that has moved to another group.
_NOT_NEEDED: Final = (
    "org.hibernate:hibernate-agroal",
    "com.mysql:*",
    "org.mariadb.jdbc:*",
    "com.microsoft.sqlserver:*",
    "com.oracle.database.jdbc:*",
)


def flink_tree() -> Path:
    """Return the folder with the jars of Flink, its SQL gateway and the connectors to Kafka and PostgreSQL in `libs`.

    Raises:
        ServerMissing: `mvn` is not there or could not fetch it.
    """
    return _placed(f"flink-{FLINK}", lambda into: _fill(into, _FLINK))


def connect_tree() -> Path:
    """Return the folder with the jars of Kafka Connect, Debezium's JDBC sink and an Avro converter in `libs`.

    Raises:
        ServerMissing: `mvn` is not there or could not fetch it.
    """
    return _placed(f"connect-{KAFKA}-debezium-{DEBEZIUM}", lambda into: _fill(into, _CONNECT))


def clickhouse_packages() -> Path:
    """Return the folder that has the Python package `chdb`, ClickHouse as a library, for a process of its own.

    Raises:
        ServerMissing: `pip` could not fetch it.
    """

    def fill(into: Path) -> None:
        asked = ["-q", "--disable-pip-version-check", "--target", str(into), f"chdb-core=={CLICKHOUSE}"]
        _run([sys.executable, "-m", "pip", "install", *asked], dict(os.environ))

    return _placed(f"chdb-{CLICKHOUSE}-{sys.version_info.major}.{sys.version_info.minor}", fill)


def _fill(into: Path, artifacts: Sequence[str]) -> None:
    into.mkdir()
    (into / "pom.xml").write_text(_pom(artifacts))
    asked = ["-f", str(into / "pom.xml"), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    _run([*_maven(), *asked, f"-DoutputDirectory={into / 'libs'}"], dict(os.environ))


def _pom(artifacts: Sequence[str]) -> str:
    excluded = "".join(f"<exclusion>{_named(each)}</exclusion>" for each in _NOT_NEEDED)
    dependencies = "".join(
        f"<dependency>{_named(each)}<exclusions>{excluded}</exclusions></dependency>\n" for each in artifacts
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>\n'
        "<groupId>tests</groupId><artifactId>consumer</artifactId><version>1</version>\n"
        f"<dependencies>\n{dependencies}</dependencies></project>\n"
    )


def _named(artifact: str) -> str:
    return "".join(
        f"<{tag}>{part}</{tag}>"
        for tag, part in zip(("groupId", "artifactId", "version"), artifact.split(":"), strict=False)
    )
