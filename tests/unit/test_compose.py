"""The files under compose/ say what the tool and the tests expect; Docker itself is not needed to see that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from cdcflow.config.load import load
from tests.servers.cluster import NOT_DURABLE, SETTINGS
from tests.servers.kafka_server import ONE
from tests.servers.kafka_server import SETTINGS as KAFKA_SETTINGS

COMPOSE = Path(__file__).parents[2] / "compose"


def services(name: str) -> dict[str, Any]:
    whole = yaml.safe_load((COMPOSE / name).read_text())
    named: dict[str, Any] = whole["services"]
    return named


def test_the_pipeline_between_the_containers_is_a_valid_configuration() -> None:
    config = load(COMPOSE / "postgres" / "cdcflow.yaml", {"SHOP_PASSWORD": "secret"})
    assert config.pipeline == "shop"


def test_the_pipeline_names_the_services_of_the_file() -> None:
    config = yaml.safe_load((COMPOSE / "postgres" / "cdcflow.yaml").read_text())
    hosts = {re.search(r"@([a-z]+):", config[side]["url"]).group(1) for side in ("source", "target")}  # type: ignore[union-attr]
    assert hosts | {"cdcflow"} == set(services("postgres.yaml"))


@pytest.mark.parametrize("name", ["publish.yaml", "apply.yaml"])
def test_the_pipelines_around_the_bus_name_services_of_the_file(name: str) -> None:
    config = yaml.safe_load((COMPOSE / "bus" / name).read_text())
    hosts = {urlsplit(config[side]["url"]).hostname for side in ("source", "target")}
    assert "kafka" in hosts
    assert hosts <= set(services("bus.yaml"))


def test_each_cdcflow_of_the_bus_is_given_the_files_that_it_runs() -> None:
    for name, config in (("publisher", "publish.yaml"), ("applier", "apply.yaml")):
        service = services("bus.yaml")[name]
        assert service["command"] == ["run", "-c", config]
        rules = yaml.safe_load((COMPOSE / "bus" / config).read_text())["rules"]
        mounted = {mount.split(":")[0].rpartition("/")[2] for mount in service["volumes"]}
        assert mounted == {config, rules}


def test_the_appliers_read_what_the_publisher_writes() -> None:
    publish, apply = (yaml.safe_load((COMPOSE / "bus" / name).read_text()) for name in ("publish.yaml", "apply.yaml"))
    assert apply["source"]["url"] == publish["target"]["url"]
    assert apply["source"]["format"] == publish["target"]["format"]
    assert all(topic.startswith(publish["pipeline"] + ".") for topic in apply["source"]["topics"])
    assert apply["pipeline"] != publish["pipeline"]


def test_the_kafka_of_the_tests_has_the_settings_of_their_processes() -> None:
    environment = services("bus-test.yaml")["kafka"]["environment"]
    small = {"log.cleaner.dedupe.buffer.size", "num.network.threads", "num.io.threads"}
    for name, value in {**KAFKA_SETTINGS, **ONE}.items():
        if name not in small:
            assert environment["KAFKA_" + name.upper().replace(".", "_")] == value


@pytest.mark.parametrize("name", ["postgres.yaml", "test-server.yaml", "mysql.yaml", "bus.yaml", "bus-test.yaml"])
def test_every_port_is_published_on_loopback_only(name: str) -> None:
    for service in services(name).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", ["postgres.yaml", "mysql.yaml", "bus.yaml"])
def test_every_mounted_file_exists(name: str) -> None:
    for service in services(name).values():
        for mount in service.get("volumes", []):
            if not mount.startswith("."):
                continue  # a volume of Docker's own
            assert (COMPOSE / mount.partition(":")[0]).is_file(), mount


def test_the_container_of_the_tests_has_the_settings_of_their_processes() -> None:
    command = services("test-server.yaml")["postgres"]["command"]
    own = {"listen_addresses", "unix_socket_directories", "shared_buffers", "max_wal_size"}
    for name, value in ({**SETTINGS, **NOT_DURABLE}).items():
        if name not in own:
            assert f"{name}={value.strip(chr(39))}" in command
