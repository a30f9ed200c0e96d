"""Servers, databases and commands for every test: real ones, fresh for each test.

Servers are started on first use, one set for each test process, and kept until it ends.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

import pytest

from cdcflow.codecs import loading
from tests.servers.commands import Commands, PipelineFolder, Running
from tests.servers.database import Database, drop_database, make_database
from tests.servers.fleet import Fleet, MysqlLike, PostgresServer
from tests.servers.kafka_server import Kafka
from tests.servers.mysql_database import MysqlDatabase, drop_mysql_database, make_mysql_database
from tests.servers.mysql_server import MysqlServer
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq_server import RabbitMq
from tests.servers.registry_server import SchemaRegistry

ROOT = Path(__file__).parent.parent
_pipeline_numbers = itertools.count(1)


class MakeDatabase(Protocol):
    """Creates databases that are dropped at the end of the test."""

    def __call__(self, server: PostgresServer, *, encoding: str = "UTF8", label: str = "db") -> Database: ...


class MakeMysqlDatabase(Protocol):
    """Creates MySQL or MariaDB databases that are dropped at the end of the test."""

    def __call__(self, server: MysqlLike, label: str = "db", *, charset: str = "utf8mb4") -> MysqlDatabase: ...


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test a compiled module that is older than its source."""
    if os.environ.get("CDCFLOW_CODECS") == "plain":
        return
    for name in loading.HOT_MODULES:
        source = ROOT / (name.replace(".", "/") + ".py")
        for built in source.parent.glob(source.stem + ".*.so"):
            if built.stat().st_mtime < source.stat().st_mtime:
                raise pytest.UsageError(f"{built.name} is older than its source: run `make compile`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, in one test process, the tests that share what takes long to make (`--dist loadgroup`)."""
    for item in items:
        group = _group(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str:
    """Return the name of an item's group: of a server that few tests need, or of a fixture of its module."""
    names = getattr(item, "fixturenames", ())
    module = item.nodeid.partition("::")[0]
    for name in ("kafka_cluster", "schema_registry", "rabbitmq"):
        if name in names:
            return name
    if "kafka" in names:
        return f"kafka-{crc32(module.encode()) % 2}"  # two brokers: one would have the longest queue of all
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    shared = [name for name, made in definitions.items() if name in names and made[-1].scope == "module"]
    return "-".join([module, *(str(parameters[name]) for name in shared if name in parameters)]) if shared else ""


def pytest_report_header() -> list[str]:
    """Say which form of the codecs is tested."""
    forms = ", ".join(f"{name.rpartition('.')[2]} {form}" for name, form in loading.loaded().items())
    return [f"codecs: {forms or 'none'}"]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a parallel test process knows of its servers to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["servers"] = getattr(session.config, "cdcflow_servers", [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it over from each test process."""
    told: list[str] = getattr(node.config, "cdcflow_servers", [])
    told.extend(getattr(node, "workeroutput", {}).get("servers", []))
    node.config.cdcflow_servers = told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where the servers came from, one line for each origin however many there were."""
    for line, times in sorted(Counter(getattr(config, "cdcflow_servers", [])).items()):
        terminalreporter.write_line(f"server: {line}" + (f" (in {times} test processes)" if times > 1 else ""))


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Every server of this test process; they start on first use."""
    fleet = Fleet()
    request.config.cdcflow_servers = fleet.told  # type: ignore[attr-defined]
    yield fleet
    fleet.end()


@pytest.fixture(scope="session")
def pg_source(fleet: Fleet) -> PostgresServer:
    """PostgreSQL 18, the usual source."""
    return fleet.postgres(18, "source")


@pytest.fixture(scope="session")
def pg_target(fleet: Fleet) -> PostgresServer:
    """PostgreSQL 18, the usual target: another cluster."""
    return fleet.postgres(18, "target")


@pytest.fixture(autouse=True)
def _servers_run_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that stopped a server leaves it running for the next."""
    yield
    if "fleet" in request.fixturenames or {"pg_source", "pg_target", "pg"} & set(request.fixturenames):
        request.getfixturevalue("fleet").all_running()


@pytest.fixture(scope="session")
def pg(fleet: Fleet) -> Callable[..., PostgresServer]:
    """`pg(14)`, `pg(17, "target")`: a server of a version; without a second word one is shared by all."""
    return fleet.postgres


@pytest.fixture
def new_server(fleet: Fleet) -> Callable[..., PostgresServer]:
    """`new_server(18, durable=True, settings={"wal_level": "replica"})`: a server of this test alone."""
    return fleet.alone


@pytest.fixture
def new_database() -> Iterator[MakeDatabase]:
    """`new_database(server, encoding="LATIN1")`: more databases for this test."""
    made: list[Database] = []

    def make(server: PostgresServer, *, encoding: str = "UTF8", label: str = "db") -> Database:
        made.append(make_database(server, encoding=encoding, label=label))
        return made[-1]

    yield make
    for database in made:
        database.server.start()  # type: ignore[attr-defined]
        drop_database(database)


@pytest.fixture
def source_db(pg_source: PostgresServer, new_database: MakeDatabase) -> Database:
    """A fresh database on the usual source."""
    return new_database(pg_source, label="source")


@pytest.fixture
def target_db(pg_target: PostgresServer, new_database: MakeDatabase) -> Database:
    """A fresh database on the usual target."""
    return new_database(pg_target, label="target")


@pytest.fixture(scope="session")
def mysql_source(fleet: Fleet) -> MysqlLike:
    """MySQL 9.7, the usual MySQL source."""
    return fleet.mysql(role="source")


@pytest.fixture(scope="session")
def mysql_target(fleet: Fleet) -> MysqlLike:
    """MySQL 9.7, the usual MySQL target: another server."""
    return fleet.mysql(role="target")


@pytest.fixture(scope="session")
def mariadb_source(fleet: Fleet) -> MysqlLike:
    """MariaDB, the usual MariaDB source."""
    return fleet.mariadb("source")


@pytest.fixture(scope="session")
def mariadb_target(fleet: Fleet) -> MysqlLike:
    """MariaDB, the usual MariaDB target: another server."""
    return fleet.mariadb("target")


@pytest.fixture
def new_mysql_server(fleet: Fleet) -> Callable[..., MysqlServer]:
    """`new_mysql_server("mariadb", "11.4", settings={"binlog-row-image": "MINIMAL"})`: a server of this test alone."""
    return fleet.mysql_alone


@pytest.fixture
def new_mysql_database() -> Iterator[MakeMysqlDatabase]:
    """`new_mysql_database(mysql_source, "shop", charset="latin1")`: more databases for this test."""
    made: list[MysqlDatabase] = []

    def make(server: MysqlLike, label: str = "db", *, charset: str = "utf8mb4") -> MysqlDatabase:
        made.append(make_mysql_database(server, charset=charset, label=label))
        return made[-1]

    yield make
    for database in made:
        database.server.start()  # type: ignore[attr-defined]
        drop_mysql_database(database)


@pytest.fixture
def mysql_source_db(mysql_source: MysqlLike, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    """A fresh database on the usual MySQL source."""
    return new_mysql_database(mysql_source, "source")


@pytest.fixture
def mysql_target_db(mysql_target: MysqlLike, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    """A fresh database on the usual MySQL target."""
    return new_mysql_database(mysql_target, "target")


@pytest.fixture
def mariadb_source_db(mariadb_source: MysqlLike, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    """A fresh database on the usual MariaDB source."""
    return new_mysql_database(mariadb_source, "source")


@pytest.fixture
def mariadb_target_db(mariadb_target: MysqlLike, new_mysql_database: MakeMysqlDatabase) -> MysqlDatabase:
    """A fresh database on the usual MariaDB target."""
    return new_mysql_database(mariadb_target, "target")


@pytest.fixture(scope="session")
def kafka(fleet: Fleet) -> Kafka:
    """Kafka of one broker, without logins; a test takes topic names of its own."""
    return fleet.bus.kafka()


@pytest.fixture(scope="module")
def kafka_cluster(fleet: Fleet) -> Iterator[Kafka]:
    """Three Kafka brokers for the tests of one module, which may stop and kill them: `.brokers[0].kill()`."""
    cluster = fleet.bus.kafka_cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def new_kafka(fleet: Fleet) -> Callable[..., Kafka]:
    """`new_kafka(security="sasl_ssl", settings={"message.max.bytes": "1000"})`: a Kafka of this test alone."""
    return fleet.bus.kafka_alone


@pytest.fixture(scope="session")
def schema_registry(fleet: Fleet) -> SchemaRegistry:
    """A schema registry with Confluent's API; what was registered is lost when it is stopped."""
    return fleet.bus.registry()


@pytest.fixture(scope="session")
def rabbitmq(fleet: Fleet) -> RabbitMq:
    """RabbitMQ with streams and the management API; a test takes queue names of its own."""
    return fleet.bus.rabbitmq()


@pytest.fixture
def new_rabbitmq(fleet: Fleet) -> Callable[[], RabbitMq]:
    """`new_rabbitmq()`: a RabbitMQ of this test alone."""
    return fleet.bus.rabbitmq_alone


@pytest.fixture
def new_pipeline(tmp_path: Path) -> Callable[[Database, Database], PipelineFolder]:
    """`new_pipeline(source, target)`: config and rules for any pair, every table of `public`, in `tmp_path`."""

    def make(source: Database, target: Database) -> PipelineFolder:
        name = f"t{os.getpid()}_{next(_pipeline_numbers)}"
        return PipelineFolder(tmp_path, name, source.url, target.url).write_config().write_rules("public.*")

    return make


@pytest.fixture
def pipeline_dir(
    new_pipeline: Callable[[Database, Database], PipelineFolder], source_db: Database, target_db: Database
) -> PipelineFolder:
    """Config and rules for the usual pair with a pipeline name of its own."""
    return new_pipeline(source_db, target_db)


@pytest.fixture
def commands(request: pytest.FixtureRequest, tmp_path: Path, new_database: MakeDatabase) -> Iterator[Commands]:
    """Processes of cdcflow in `tmp_path`; ended before the databases are dropped."""
    commands = Commands(tmp_path, forked=request.node.get_closest_marker("own_interpreter") is None)
    yield commands
    commands.end()


@pytest.fixture
def cdcflow(commands: Commands) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`cdcflow("run", "--until-caught-up", exit_code=0)` runs the command in the pipeline's folder to its end."""
    return commands.call


@pytest.fixture
def running(commands: Commands) -> Callable[..., Running]:
    """`running("run")` starts the command in the background: kill, terminate, pause, wait, log."""
    return commands.start


@pytest.fixture
def proxy() -> Iterator[Callable[[PostgresServer | MysqlLike], Proxy]]:
    """`proxy(pg_source)`: a TCP proxy before a server; `.through(url)` is the way through it."""
    made: list[Proxy] = []

    def make(server: PostgresServer | MysqlLike) -> Proxy:
        made.append(Proxy(server))
        return made[-1]

    yield make
    for one in made:
        one.close()
