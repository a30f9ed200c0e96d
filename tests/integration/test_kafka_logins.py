"""Brokers and a registry that let nobody in without TLS and a login: both sides by the command, right and wrong."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_pairs import Through, through
from tests.servers.cache import run_folder
from tests.servers.certificates import Authority
from tests.servers.commands import Running
from tests.servers.database import Database, is_same, same
from tests.servers.fleet import Fleet
from tests.servers.kafka_security import USERS
from tests.servers.kafka_server import Kafka
from tests.servers.registry_gate import PASSWORD, Gate
from tests.servers.registry_server import SchemaRegistry
from tests.servers.tokens import Issuer
from tests.servers.waiting import until

Between = Callable[..., Through]
WRONG = "Wr0ng-Wort"


@pytest.fixture(scope="module")
def walled(fleet: Fleet) -> Iterator[Kafka]:
    """A Kafka with SASL over TLS, for the tests of this module."""
    kafka = fleet.bus.kafka_walled()
    yield kafka
    kafka.remove()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cdcflow-gate-", dir=run_folder()))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """Who signed the registry's certificate."""
    return Authority(folder / "authority")


@pytest.fixture
def gate(schema_registry: SchemaRegistry, authority: Authority) -> Iterator[Gate]:
    made = Gate(schema_registry.url, authority.sign("registry", "IP:127.0.0.1"))
    yield made
    made.close()


@pytest.fixture
def between(
    tmp_path: Path, walled: Kafka, gate: Gate, authority: Authority, source_db: Database, target_db: Database
) -> Iterator[Between]:
    """`between("PLAIN", "SCRAM-SHA-512")`: how the sides log in; the reader is another user than the writer."""
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    made: list[Through] = []

    def make(out: str, into: str) -> Through:
        def keys(user: str, mechanism: str) -> dict[str, Any]:
            return {
                "url": walled.url(user),
                "sasl": {"mechanism": mechanism},
                "tls": {"ca": str(walled.authority)},
                "format": "avro",
                "registry": {"url": gate.url(), "ca": str(authority.certificate)},
            }

        made.append(through(tmp_path, walled, source_db, target_db, out=keys("writer", out), into=keys("reader", into)))
        return made[-1]

    yield make
    for one in made:
        one.end()


def with_source(way: Through, **keys: Any) -> None:
    """Change what the applier is told of its source."""
    way.into.write_config(source={**way.into.settings["source"], **keys})


def with_target(way: Through, **keys: Any) -> None:
    """Change what the publisher is told of its target."""
    way.out.write_config(target={**way.out.settings["target"], **keys})


def refused(way: Through, side: str, exit_code: int, *words: str) -> None:
    """Assert that `run` ends with that code and an error that says what and what to do, without a password."""
    commands = way.publishing if side == "out" else way.applying
    done = commands.call("run", "--until-caught-up", exit_code=exit_code)
    said = done.stdout + done.stderr
    for word in (*words, "error:", "do:"):
        assert word in said, f"{word!r} is not in:\n{said}"
    assert "Traceback" not in said
    for secret in (WRONG, PASSWORD, *USERS.values()):
        assert secret not in said


def test_rows_go_through_brokers_and_a_registry_that_are_verified_and_ask_for_logins(
    between: Between, gate: Gate
) -> None:
    way = between("PLAIN", "SCRAM-SHA-256")
    for commands, name in ((way.publishing, "target.registry"), (way.applying, "source.registry")):
        found = json.loads(commands.call("check", "--json", exit_code=0).stdout)["findings"]
        assert [each["level"] for each in found if each["name"] == name] == ["ok"]
    way.publish()
    way.source.execute("UPDATE t SET v = 'b'; INSERT INTO t VALUES (2, NULL)")
    way.publish()
    way.apply()
    same(way.source, way.target, "t")
    assert gate.passed
    assert not gate.refused


def test_an_applier_whose_login_or_certificates_are_wrong_ends_at_once_and_applies_nothing(
    between: Between, walled: Kafka, gate: Gate, authority: Authority
) -> None:
    way = between("SCRAM-SHA-256", "SCRAM-SHA-512")
    way.publish()
    right = dict(way.into.settings["source"])
    for keys, code, words in (
        ({"url": walled.url("reader", WRONG)}, 5, ("the broker refuses the login", "sasl.mechanism")),
        ({"sasl": {"mechanism": "PLAIN"}, "url": walled.url("reader", WRONG)}, 5, ("the broker refuses the login",)),
        ({"tls": {"ca": str(authority.certificate)}}, 2, ("TLS with the broker failed", "ca")),
        ({"registry": {"url": gate.url(WRONG), "ca": str(authority.certificate)}}, 5, ("does not let us in",)),
        ({"registry": {"url": gate.url()}}, 2, ("certificate of the schema registry is not trusted", "registry.ca")),
    ):
        with_source(way, **{**right, **keys})
        refused(way, "into", code, *words)
        assert way.target.value("SELECT to_regclass('t')") is None
    with_source(way, **right)
    way.apply()
    same(way.source, way.target, "t")


def test_a_publisher_whose_login_or_certificates_are_wrong_ends_at_once_and_publishes_nothing(
    between: Between, walled: Kafka, gate: Gate, authority: Authority
) -> None:
    way = between("SCRAM-SHA-512", "PLAIN")
    right = dict(way.out.settings["target"])
    for keys, code, words in (
        ({"url": walled.url("writer", WRONG)}, 5, ("the broker refuses the login", "sasl.mechanism")),
        ({"tls": {"ca": str(authority.certificate)}}, 2, ("TLS with the broker failed", "ca")),
        ({"registry": {"url": gate.url(WRONG), "ca": str(authority.certificate)}}, 5, ("does not let us in",)),
        ({"registry": {"url": gate.url()}}, 2, ("certificate of the schema registry is not trusted", "registry.ca")),
    ):
        with_target(way, **{**right, **keys})
        refused(way, "out", code, *words)
        assert way.topic("public.t") not in walled.topics()
    with_target(way, **right)
    way.publish()
    way.apply()
    same(way.source, way.target, "t")


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def tokens(walled: Kafka, issuer: Issuer, user: str, secret: str) -> dict[str, Any]:
    """Return what a side is told whose tokens are from that issuer."""
    sasl = {"mechanism": "OAUTHBEARER", "token_url": issuer.url, "client_id": user, "client_secret": secret}
    return {"url": walled.url(), "sasl": sasl, "tls": {"ca": str(walled.authority)}}


def test_both_sides_log_in_with_tokens_that_an_issuer_gives_them(
    tmp_path: Path, walled: Kafka, issuer: Issuer, source_db: Database, target_db: Database
) -> None:
    def keys(user: str, secret: str) -> dict[str, Any]:
        return tokens(walled, issuer, user, secret)

    source_db.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    into = keys("reader", USERS["reader"])
    way = through(tmp_path, walled, source_db, target_db, out=keys("writer", USERS["writer"]), into=into)
    try:
        publisher = way.publishing.start("run")
        until(lambda: way.topic("public.t") in walled.topics(), limit=60, what="the topic is made")
        applier = way.instance()
        until(lambda: is_same(source_db, target_db, "t"), limit=60, what="the row has arrived")
        before = Counter(issuer.issued)

        def arrived(what: str) -> None:
            try:
                until(lambda: is_same(source_db, target_db, "t"), limit=60, what=f"{what} has arrived")
            except AssertionError as failed:
                failed.add_note(f"publisher:\n{publisher.log()}\napplier:\n{applier.log()}")
                raise

        def renewed() -> bool:
            return all(issuer.issued.count(user) >= before[user] + 2 for user in ("writer", "reader"))

        until(renewed, limit=60, what="both have asked for new tokens")
        source_db.execute("INSERT INTO t VALUES (2, 'b')")
        arrived("the other row")
        # The tokens expire, and nobody gives new ones for a while.
        issuer.away = True
        until(lambda: {"writer", "reader"} <= set(issuer.unanswered), limit=60, what="both got no token")
        issuer.away = False
        source_db.execute("INSERT INTO t VALUES (3, 'c')")
        arrived("the row behind the issuer's outage")
        for process in (publisher, applier):
            process.terminate()
            assert process.wait() == 0, process.log()
        with_source(way, **keys("reader", WRONG))
        refused(way, "into", 5, "the issuer of tokens refuses the login", "client_secret")
        assert issuer.refused
    finally:
        way.end()


@pytest.fixture
def other_issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def test_run_and_check_of_both_sides_say_that_no_token_is_had_or_that_none_is_taken(
    tmp_path: Path, walled: Kafka, issuer: Issuer, other_issuer: Issuer, source_db: Database, target_db: Database
) -> None:
    source_db.execute("CREATE TABLE t (id int PRIMARY KEY)")
    issuer.says_no = "no such tenant"
    other_issuer.early = True
    ways: list[Through] = []
    waiting: list[tuple[Running, tuple[str, ...]]] = []
    no_token = ("no token can be had for the brokers now", "no such tenant", "sasl.token_url")
    not_taken = ("the broker does not take the token", "invalid_token", "issuer, audience and scope")
    try:
        # All at once: each waits for as long as it would for brokers that are away.
        for one, words in ((issuer, no_token), (other_issuer, not_taken)):
            sides = {side: tokens(walled, one, side, USERS[side]) for side in ("writer", "reader")}
            out, into = sides["writer"], sides["reader"]
            ways.append(through(tmp_path / words[1][:2], walled, source_db, target_db, out=out, into=into))
            for commands in (ways[-1].publishing, ways[-1].applying):
                waiting += [(commands.start(verb), words) for verb in ("run", "check")]
        for process, words in waiting:
            process.until_output(words[0])
            for word in words:
                assert word in process.output()
            assert not any(secret in process.output() for secret in USERS.values())
        for process, _ in waiting[1::2]:
            assert process.wait(60) == 75, process.output()
        for process, _ in waiting[::2]:  # it may pass
            assert "interrupted, will" in process.log(), process.output()
    finally:
        for way in ways:
            way.end()
