"""Encrypted connections: the certificate and the host's name are verified on both sides, or the run ends at once."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.conftest import MakeDatabase
from tests.servers.cache import run_folder
from tests.servers.certificates import Authority, Certificate
from tests.servers.cluster import Cluster
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.waiting import until

Call = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Running]

PASSWORD = "Gehe1m-Wort"

# Without encryption nobody but the tests' own superuser comes in.
HBA = """\
hostssl all certified 127.0.0.1/32 cert
hostssl replication certified 127.0.0.1/32 cert
hostssl all app 127.0.0.1/32 scram-sha-256
hostssl replication app 127.0.0.1/32 scram-sha-256
hostnossl all app 127.0.0.1/32 reject
host all postgres 127.0.0.1/32 trust
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the servers' account may enter, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="cdcflow-tls-", dir=run_folder()))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def authority(folder: Path) -> Authority:
    """Who signs the servers' certificates."""
    return Authority(folder / "right")


@pytest.fixture
def encrypted(new_server: Callable[..., Cluster], folder: Path) -> Callable[[Certificate, Authority], Cluster]:
    """`encrypted(certificate, authority)`: a server that lets the roles `app` and `certified` in over TLS only."""

    def make(certificate: Certificate, clients: Authority) -> Cluster:
        hba = folder / "hba.conf"
        hba.write_text(HBA)
        # The wheel's 18 is built without TLS.
        server = new_server(18, contrib=True, settings={"hba_file": f"'{hba}'"})
        with psycopg.connect(server.url(), autocommit=True) as connection:
            if connection.execute("SHOW ssl_library").fetchone() == ("",):
                pytest.skip(f"{server} is built without TLS")
            connection.execute(f"CREATE ROLE app SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
            connection.execute("CREATE ROLE certified SUPERUSER LOGIN")
        server.configure(
            ssl="on",
            ssl_cert_file=f"'{certificate.certificate}'",
            ssl_key_file=f"'{certificate.key}'",
            ssl_ca_file=f"'{clients.certificate}'",
        )
        server.restart()
        return server

    return make


def url(database: Database, root: Path, *, mode: str = "verify-full", host: str = "127.0.0.1") -> str:
    plain = database.server.url(database.name, user="app", password=PASSWORD)
    return f"{plain.replace('@127.0.0.1', '@' + host)}?sslmode={mode}&sslrootcert={quote(str(root))}"


@pytest.fixture
def both(
    encrypted: Callable[[Certificate, Authority], Cluster],
    authority: Authority,
    new_database: MakeDatabase,
    new_pipeline: Callable[[Database, Database], PipelineFolder],
) -> tuple[Database, Database, PipelineFolder]:
    """Two servers with certificates for 127.0.0.1, and a pipeline that verifies both."""
    made = []
    for label in ("source", "target"):
        server = encrypted(authority.sign(label, "IP:127.0.0.1"), authority)
        made.append(new_database(server, label=label))
    source, target = made
    pipeline = new_pipeline(source, target)
    pipeline.through(source=url(source, authority.certificate), target=url(target, authority.certificate))
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
    return source, target, pipeline


def refused(cdcflow: Call, *words: str) -> None:
    """Assert that `run` and `check` end at the first attempt with 5 and an error that says what and what to do."""
    for command in (("run", "--until-caught-up"), ("check",)):
        done = cdcflow(*command, exit_code=5)
        said = done.stdout + done.stderr
        assert "pause_seconds" not in said, "it was tried again"
        for word in (*words, "error:", "do:", "sslrootcert"):
            assert word in said, f"{word!r} is not in:\n{said}"
        assert "Traceback" not in said
        assert PASSWORD not in said


def nothing_was_made(source: Database, target: Database) -> None:
    assert source.slots() == []
    assert source.value("SELECT count(*) FROM pg_publication") == 0
    assert target.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'cdcflow'") == 0


def test_a_copy_and_a_stream_run_over_connections_that_are_all_encrypted_and_verified(
    both: tuple[Database, Database, PipelineFolder], running: Start, cdcflow: Call
) -> None:
    source, target, pipeline = both
    pipeline.write_config(source={"url": pipeline.source_url, "snapshot": {"chunk": "1MB"}})
    # Rows of all sizes around that of a TLS record (16 kB): a part of one that is decrypted and not read yet does not
    # wake who waits for the socket.
    source.execute(
        "INSERT INTO t SELECT n, repeat(md5(n::text), (n * 37) % 1500) FROM generate_series(2, 2000) n;"
        "CREATE TABLE small (id int PRIMARY KEY, v int); INSERT INTO small SELECT n, 0 FROM generate_series(1, 20000) n"
    )
    process = running("run")

    def equal() -> bool:
        assert not process.ended, process.output()[-4000:]
        return is_same(source, target, "t") and is_same(source, target, "small")

    until(equal, what="the rows are copied")
    until(lambda: states(target) == {"live"}, what="the tables are live")
    for size in (10_000, 16_300, 16_384, 100_000, 5_000_000):
        source.execute(f"INSERT INTO t VALUES ({size}, repeat('x', {size}))")
        until(equal, what=f"a value of {size} bytes is followed")
    source.execute(
        "UPDATE small SET v = v + 1; UPDATE t SET v = v || 'more' WHERE id < 1000; DELETE FROM t WHERE id % 7 = 0"
    )
    until(equal, what="a backlog is followed")

    for database in (source, target):
        seen = database.query(
            "SELECT application_name, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
            " WHERE usename = 'app' AND datname = %s",
            [database.name],
        )
        assert seen
        assert {encrypted for _, encrypted in seen} == {True}, seen
    process.terminate()
    assert process.wait() == 0, process.output()
    assert PASSWORD not in process.output()


def states(target: Database) -> set[str]:
    return {state for (state,) in target.query("SELECT state FROM cdcflow.tables")}


def test_a_client_certificate_takes_the_place_of_the_password(
    both: tuple[Database, Database, PipelineFolder], authority: Authority, cdcflow: Call
) -> None:
    source, target, pipeline = both
    mine = authority.sign("certified", for_server=False)

    def certified(database: Database) -> str:
        plain = database.server.url(database.name, user="certified")
        files = f"sslrootcert={authority.certificate}&sslcert={mine.certificate}&sslkey={mine.key}"
        return f"{plain}?sslmode=verify-full&{files}"

    pipeline.through(source=certified(source), target=certified(target))
    cdcflow("run", "--until-caught-up", exit_code=0)
    source.execute("INSERT INTO t VALUES (2, 'b')")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source, target, "t")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_another_authority_signed_ends_the_run_at_once(
    both: tuple[Database, Database, PipelineFolder], side: str, folder: Path, cdcflow: Call
) -> None:
    source, target, pipeline = both
    wrong = Authority(folder / "wrong").certificate
    pipeline.through(**{side: url(source if side == "source" else target, wrong)})
    refused(cdcflow, f"the {side} and cdcflow do not agree on TLS", "certificate")
    nothing_was_made(source, target)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_certificate_of_another_host_ends_the_run_at_once(
    both: tuple[Database, Database, PipelineFolder], authority: Authority, side: str, cdcflow: Call
) -> None:
    source, target, pipeline = both
    database = source if side == "source" else target
    pipeline.through(**{side: url(database, authority.certificate, host="localhost")})
    refused(cdcflow, f"the {side} and cdcflow do not agree on TLS", "localhost")
    nothing_was_made(source, target)
    pipeline.through(**{side: url(database, authority.certificate, host="localhost", mode="verify-ca")})
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source, target, "t")


def test_a_file_of_authorities_that_is_not_there_ends_the_run_at_once(
    both: tuple[Database, Database, PipelineFolder], folder: Path, cdcflow: Call
) -> None:
    source, target, pipeline = both
    pipeline.through(target=url(target, folder / "nowhere.crt"))
    refused(cdcflow, "the target and cdcflow do not agree on TLS", "nowhere.crt")
    nothing_was_made(source, target)


def test_a_certificate_that_changes_while_it_runs_ends_the_run_at_its_next_connection(
    both: tuple[Database, Database, PipelineFolder], folder: Path, running: Start
) -> None:
    source, target, _ = both
    process = running("run")
    until(lambda: states(target) == {"live"}, what="the table is live")
    server = source.server
    assert isinstance(server, Cluster)
    other = Authority(folder / "other").sign("source", "IP:127.0.0.1")
    server.configure(ssl_cert_file=f"'{other.certificate}'", ssl_key_file=f"'{other.key}'")
    server.restart()
    assert process.wait() == 5, process.output()
    assert "the source and cdcflow do not agree on TLS" in process.log()
