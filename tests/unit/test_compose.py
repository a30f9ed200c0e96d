"""The files under compose/ say what the tool and the tests expect; Docker itself is not needed to see that."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cdcflow.config.load import load
from tests.servers.cluster import NOT_DURABLE, SETTINGS

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


@pytest.mark.parametrize("name", ["postgres.yaml", "test-server.yaml"])
def test_every_port_is_published_on_loopback_only(name: str) -> None:
    for service in services(name).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_mounted_file_exists() -> None:
    for service in services("postgres.yaml").values():
        for mount in service.get("volumes", []):
            assert (COMPOSE / mount.partition(":")[0]).is_file(), mount


def test_the_container_of_the_tests_has_the_settings_of_their_processes() -> None:
    command = services("test-server.yaml")["postgres"]["command"]
    own = {"listen_addresses", "unix_socket_directories", "shared_buffers", "max_wal_size"}
    for name, value in ({**SETTINGS, **NOT_DURABLE}).items():
        if name not in own:
            assert f"{name}={value.strip(chr(39))}" in command
