"""What the containers under compose/ would do, done without containers: their SQL, their files, their commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.commands import Commands
from tests.servers.database import Database, is_same
from tests.servers.fleet import Fleet, PostgresServer
from tests.servers.kafka_server import Kafka
from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_session import connect_to, rows
from tests.servers.waiting import until

COMPOSE = Path(__file__).parents[2] / "compose"
PASSWORD = "shop"
# As the images make the role that is named in their environment.
ROLE = f"CREATE ROLE shop SUPERUSER LOGIN REPLICATION PASSWORD '{PASSWORD}'; CREATE DATABASE shop OWNER shop"


class Composed:
    """The services of one file. `hosts` gives what stands for `source:5432` and the like."""

    def __init__(self, name: str, folder: Path, hosts: Mapping[str, str]) -> None:
        self.services: dict[str, Any] = yaml.safe_load((COMPOSE / f"{name}.yaml").read_text())["services"]
        self._commands = Commands(folder)
        for service in self.services.values():
            for mount in service.get("volumes", []):
                here, there, *_ = mount.split(":")
                if there.startswith("/etc/cdcflow/"):
                    text = (COMPOSE / here).read_text().replace("0.0.0.0:9187", "127.0.0.1:0")
                    for host, address in hosts.items():
                        text = re.sub(rf"\b{re.escape(host)}\b", address, text)
                    (folder / Path(there).name).write_text(text)

    def start(self, service: str, times: int = 1) -> None:
        """Start what the container of a service starts."""
        for _ in range(times):
            self._commands.start(*self.services[service].get("command", ["run"]), env={"SHOP_PASSWORD": PASSWORD})

    def end(self) -> None:
        """End them."""
        self._commands.end()


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Callable[..., Composed]]:
    made: list[Composed] = []

    def make(name: str, **hosts: str) -> Composed:
        made.append(Composed(name, tmp_path, {host.replace("_", ":"): address for host, address in hosts.items()}))
        return made[-1]

    yield make
    for each in made:
        each.end()


def shop(server: PostgresServer, script: Path | None = None) -> Database:
    """Return the database that the image of PostgreSQL makes."""
    for statement in ROLE.split("; "):
        Database(server, "postgres").execute(statement)
    made = Database(server, "shop")
    if script is not None:
        made.execute(script.read_text())
    return made


def address(server: Any) -> str:
    return f"127.0.0.1:{server.port}"


def arrives(source: Database, target: Database, what: str) -> None:
    for table in ("customers", "orders"):
        until(lambda table=table: is_same(source, target, table), limit=90, what=f"{what}: {table}")  # type: ignore[misc]


def test_postgres(composed: Callable[..., Composed], new_server: Callable[..., PostgresServer]) -> None:
    source, target = shop(new_server(18), COMPOSE / "postgres" / "shop.sql"), shop(new_server(18))
    made = composed("postgres", source_5432=address(source.server), target_5432=address(target.server))
    made.start("cdcflow")
    arrives(source, target, "the copy")
    source.execute("UPDATE customers SET city = 'Oslo' WHERE id = 1")
    arrives(source, target, "the change")
    assert target.value("SELECT city FROM customers WHERE id = 1") == "Oslo"


def test_bus(composed: Callable[..., Composed], new_server: Callable[..., PostgresServer], fleet: Fleet) -> None:
    source, target = shop(new_server(18), COMPOSE / "postgres" / "shop.sql"), shop(new_server(18))
    kafka: Kafka = fleet.bus.kafka_alone()
    made = composed(
        "bus",
        source_5432=address(source.server),
        target_5432=address(target.server),
        kafka_9092=kafka.url().removeprefix("kafka://"),
    )
    made.start("publisher")
    made.start("applier", made.services["applier"]["deploy"]["replicas"])
    arrives(source, target, "the copy")
    source.execute("UPDATE customers SET city = 'Oslo' WHERE id = 1")
    arrives(source, target, "the change")
    assert {"shop.public.customers", "shop.public.orders"} <= set(kafka.topics())


@pytest.mark.parametrize("flavour", ["mysql", "mariadb"])
def test_mysql(
    composed: Callable[..., Composed],
    new_server: Callable[..., PostgresServer],
    new_mysql_server: Callable[..., MysqlServer],
    flavour: str,
) -> None:
    server = new_mysql_server(flavour)
    with connect_to(server.url()) as root:
        rows(root, "CREATE DATABASE shop")
        rows(root, f"CREATE USER shop@'%' IDENTIFIED BY '{PASSWORD}'")
        rows(root, "GRANT ALL ON shop.* TO shop@'%'")
        rows(root, "USE shop")
        script = re.sub(r"(?m)^--.*", "", (COMPOSE / "mysql" / "shop.sql").read_text())
        for statement in filter(str.strip, script.split(";")):
            rows(root, statement)
        target = shop(new_server(18))
        made = composed("mysql", source_3306=address(server), target_5432=address(target.server))
        made.start("cdcflow")

        def same() -> bool:
            for table in ("customers", "orders"):
                wanted = rows(root, f"SELECT count(*), sum(id) FROM shop.{table}")
                if target.query(f"SELECT count(*), sum(id) FROM shop.{table}") != wanted:
                    return False
            return True

        until(same, limit=90, what="the copy")
        rows(root, "UPDATE shop.customers SET city = 'Oslo' WHERE id = 1")
        read = "SELECT city FROM shop.customers WHERE id = 1"
        until(lambda: target.value(read) == "Oslo", limit=60, what="the change")
        assert target.value("SELECT count(*) FROM shop.orders") == 100_000
