"""Wrong input and broken circumstances through the command: what it says, how it ends, and that nothing is lost."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.conftest import MakeDatabase
from tests.integration.refusals import SECRET, Call, Refused, end_walsenders, fill, of
from tests.servers.cluster import Cluster
from tests.servers.commands import PipelineFolder, Running
from tests.servers.database import Database, is_same, same
from tests.servers.waiting import until

Start = Callable[..., Running]

_numbers = itertools.count(1)


@pytest.fixture
def shop(source_db: Database, target_db: Database, pipeline_dir: PipelineFolder) -> PipelineFolder:
    """A pipeline over two small tables."""
    fill(source_db)
    return pipeline_dir


@pytest.fixture
def refused(cdcflow: Call) -> Refused:
    """See `refusals.of`."""
    return of(cdcflow)


@pytest.fixture
def role(source_db: Database, target_db: Database) -> Iterator[Callable[..., str]]:
    """`role(database, "REPLICATION")` makes a role that must give a password; returns its name."""
    made: list[tuple[Database, str]] = []

    def make(database: Database, options: str = "") -> str:
        name = f"app_{os.getpid()}_{next(_numbers)}"
        database.execute(f"CREATE ROLE {name} LOGIN {options} PASSWORD '{SECRET}'")
        made.append((database, name))
        return name

    yield make
    for database, name in made:
        until(lambda database=database: database.drop_slots() is None)  # type: ignore[misc]
        database.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def as_role(database: Database, name: str, password: str = SECRET) -> str:
    return database.server.url(database.name, user=name, password=password)


def owning(source_db: Database, name: str) -> None:
    """Let a role have everything that a source asks for, short of REPLICATION."""
    source_db.execute(f"GRANT CREATE ON DATABASE {source_db.name} TO {name}")
    source_db.execute(f"ALTER TABLE customers OWNER TO {name}; ALTER TABLE orders OWNER TO {name}")


def untouched(source_db: Database) -> None:
    """Assert that nothing was made at the source."""
    assert source_db.slots() == []
    assert source_db.value("SELECT count(*) FROM pg_publication") == 0


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


# -- access


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_wrong_password_is_refused(
    shop: PipelineFolder,
    refused: Refused,
    role: Callable[..., str],
    source_db: Database,
    target_db: Database,
    side: str,
) -> None:
    database = source_db if side == "source" else target_db
    url = as_role(database, role(database), password=SECRET + "x")
    shop.through(**{side: url})
    said = refused(5, f"the {side} refused user or password", "127.0.0.1", "correct the user or the password")
    assert database.name in said
    untouched(source_db)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_database_that_is_not_there_is_named(
    shop: PipelineFolder, refused: Refused, source_db: Database, target_db: Database, side: str
) -> None:
    server = (source_db if side == "source" else target_db).server
    shop.through(**{side: server.url("nowhere")})
    refused(5, f"the {side} has no such database", "/nowhere", 'CREATE DATABASE "nowhere"')
    untouched(source_db)


def test_a_role_that_may_not_replicate_gets_the_statement_that_lets_it(
    shop: PipelineFolder, refused: Refused, cdcflow: Call, role: Callable[..., str], source_db: Database
) -> None:
    name = role(source_db)
    owning(source_db, name)
    shop.through(source=as_role(source_db, name))
    mend = f'ALTER ROLE "{name}" REPLICATION'
    assert mend in cdcflow("check", exit_code=3).stdout
    refused(5, "may not replicate", mend)
    assert source_db.slots() == []
    source_db.execute(mend)
    cdcflow("run", "--until-caught-up", exit_code=0)


def test_a_table_that_may_not_be_read_is_named_with_its_grant_and_the_grant_is_enough(
    shop: PipelineFolder,
    refused: Refused,
    cdcflow: Call,
    role: Callable[..., str],
    source_db: Database,
    target_db: Database,
) -> None:
    name = role(source_db, "REPLICATION")
    owning(source_db, name)
    source_db.execute(f"REVOKE SELECT ON orders FROM {name}")
    shop.through(source=as_role(source_db, name))
    assert "GRANT SELECT" in cdcflow("check", exit_code=3).stdout
    grant = f'GRANT SELECT ON TABLE "public"."orders" TO "{name}"'
    refused(5, "table public.orders failed", f"{grant}; then cdcflow resync public.orders")
    same(source_db, target_db, "customers")  # the others went on
    source_db.execute(f"{grant}; UPDATE customers SET name = 'later' WHERE id = 1")
    cdcflow("resync", "public.orders", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "customers")
    same(source_db, target_db, "orders")


def test_a_target_where_nothing_may_be_made_gets_its_grant_and_the_grant_is_enough(
    shop: PipelineFolder,
    refused: Refused,
    cdcflow: Call,
    role: Callable[..., str],
    source_db: Database,
    target_db: Database,
) -> None:
    name = role(target_db)
    shop.through(target=as_role(target_db, name))
    mends = [line.partition("do: ")[2] for line in cdcflow("check", exit_code=3).stdout.splitlines() if "do: " in line]
    refused(5, "lacks a privilege on database", f'GRANT CREATE ON DATABASE "{target_db.name}" TO "{name}"')
    untouched(source_db)
    for statement in mends:
        if statement.startswith(("CREATE SCHEMA", "GRANT")):  # the rest are warnings, written for a person
            target_db.execute(statement)
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")


# -- servers


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"wal_level": "replica"}, ("wal_level = 'logical'", "restart"), id="wal_level"),
        pytest.param({"max_replication_slots": "1"}, ("no replication slot left", "max_replication_slots"), id="slots"),
    ],
)
def test_a_server_that_cannot_replicate_now_says_which_setting(
    new_server: Callable[..., Cluster],
    new_database: MakeDatabase,
    new_pipeline: Callable[[Database, Database], PipelineFolder],
    target_db: Database,
    refused: Refused,
    cdcflow: Call,
    settings: dict[str, str],
    words: tuple[str, ...],
) -> None:
    source = new_database(new_server(18, settings=settings), label="source")
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    if "max_replication_slots" in settings:
        source.execute("SELECT pg_create_physical_replication_slot('taken')")
    new_pipeline(source, target_db)
    cdcflow("check", exit_code=3)
    refused(5, *words)
    assert source.slots() == []
    source.execute("INSERT INTO t VALUES (1); UPDATE t SET id = 2")


@pytest.mark.parametrize("side", ["source", "target"])
def test_check_of_a_dead_server_ends_with_75(shop: PipelineFolder, refused: Refused, side: str) -> None:
    port = closed_port()
    shop.through(**{side: f"postgresql://postgres:{SECRET}@127.0.0.1:{port}/none"})
    refused(75, f"the connection to the {side} failed", f"127.0.0.1:{port}", command="check")


# -- files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("pipeline: [", ("cdcflow.yaml:",), id="not YAML"),
        pytest.param(
            f"rules: rules.yaml\npipeline: x\nsource: {{url: 'postgresql://a:{SECRET}@h/d'\ntarget: ]",
            ("cdcflow.yaml:",),
            id="secret near",
        ),
        pytest.param(
            "rules: rules.yaml\npipeline: x\nsorce: {url: postgresql://h/d}\ntarget: {url: postgresql://h/d}",
            ("cdcflow.yaml:3", '"sorce"', '"source"'),
            id="unknown key",
        ),
        pytest.param(
            f"rules: rules.yaml\npipeline: x\nsource: {{url: 'oracle://a:{SECRET}@h/d'}}\ntarget: {{url: postgresql://h/d}}",
            ("oracle", "postgresql"),
            id="unsupported URL",
        ),
        pytest.param(
            f"rules: rules.yaml\npipeline: x\nsource: {{url: 'postgresql://a:{SECRET}@h:port/d'}}\ntarget: {{url: postgresql://h/d}}",
            ("postgresql",),
            id="unreadable URL",
        ),
    ],
)
def test_a_wrong_configuration_ends_with_2_and_its_place(
    shop: PipelineFolder, refused: Refused, text: str, words: tuple[str, ...]
) -> None:
    shop.config.write_text(text + "\n")
    refused(2, *words)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        pytest.param(({"match": "public.ordrs"},), ("rules.yaml:", "public.ordrs", "public.orders"), id="no match"),
        pytest.param(
            ({"match": "public.*", "to": "public.one"},),
            ("public.customers", "public.orders", "public.one"),
            id="two into one",
        ),
        pytest.param(({"match": "public.orders", "key": ["idd"]},), ("rules.yaml:", "idd", "id"), id="no such key"),
        pytest.param(({"match": "public.orders", "on_delte": "soft"},), ("rules.yaml:", "on_delete"), id="unknown key"),
        pytest.param(({"match": "public.orders", "on_delete": "sof"},), ("rules.yaml:", "soft"), id="unknown value"),
    ],
)
def test_wrong_rules_end_with_2_and_their_place_before_anything_is_made(
    shop: PipelineFolder,
    refused: Refused,
    source_db: Database,
    rules: tuple[dict[str, object], ...],
    words: tuple[str, ...],
) -> None:
    shop.write_rules(*rules)
    refused(2, *words)
    refused(2, *words, command="check")
    untouched(source_db)


def test_a_table_without_a_key_is_refused_by_name_before_its_updates_could_fail(
    shop: PipelineFolder, refused: Refused, source_db: Database
) -> None:
    source_db.execute("CREATE TABLE keyless (a int); INSERT INTO keyless VALUES (1)")
    refused(5, "public.keyless", 'ALTER TABLE "public"."keyless"')
    untouched(source_db)
    source_db.execute("UPDATE keyless SET a = 2; DELETE FROM keyless")


# -- what a mended target needs


def test_a_column_that_a_view_of_the_target_needs_stops_with_the_statement(
    shop: PipelineFolder, refused: Refused, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    source_db.execute("ALTER TABLE orders ALTER name TYPE varchar(40)")
    cdcflow("run", "--until-caught-up", exit_code=0)
    target_db.execute("CREATE VIEW named AS SELECT id, name FROM orders")
    source_db.execute("ALTER TABLE orders ALTER name TYPE varchar(80); INSERT INTO orders VALUES (600, 'wide')")
    refused(5, "public.orders", "ALTER TABLE", "mend it at the target", "view")
    target_db.execute("DROP VIEW named")
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")


def test_a_view_that_keeps_a_rewritten_table_from_being_copied_again_is_told_of_with_the_statement(
    shop: PipelineFolder, refused: Refused, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    """Whoever notices first: the look at the source fails the table, its message in the log stops the run."""
    cdcflow("run", "--until-caught-up", exit_code=0)
    target_db.execute("CREATE VIEW named AS SELECT id, name FROM orders")
    source_db.execute("ALTER TABLE orders ALTER name TYPE varchar(40); INSERT INTO orders VALUES (600, 'wide')")
    refused(5, "public.orders", "ALTER TABLE", "mend it at the target", "view")
    target_db.execute("DROP VIEW named")
    cdcflow("resync", "public.orders", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    assert target_db.query("SELECT name FROM orders WHERE id = 600") == [("wide",)]


def test_rows_that_are_there_already_stop_the_first_copy_and_resync_mends_it(
    shop: PipelineFolder, refused: Refused, cdcflow: Call, source_db: Database, target_db: Database
) -> None:
    target_db.execute("CREATE TABLE orders (id int PRIMARY KEY, name text); INSERT INTO orders VALUES (7, 'mine')")
    refused(5, "public.orders", "cdcflow resync public.orders empties it first")
    assert target_db.query("SELECT * FROM orders") == [(7, "mine")]
    cdcflow("resync", "public.orders", exit_code=0)
    cdcflow("run", "--until-caught-up", exit_code=0)
    same(source_db, target_db, "orders")
    same(source_db, target_db, "customers")


# -- secrets


@pytest.mark.own_interpreter
def test_a_password_is_in_no_output_and_in_no_list_of_processes(
    shop: PipelineFolder,
    cdcflow: Call,
    running: Start,
    role: Callable[..., str],
    source_db: Database,
    target_db: Database,
) -> None:
    name = role(source_db, "SUPERUSER")
    shop.through(source=as_role(source_db, name), target=shop.target_url.replace("postgres@", f"postgres:{SECRET}@"))
    process = running("run", "--log-level", "debug")
    until(lambda: is_same(source_db, target_db, "orders"), what="the rows are copied")
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "cdcflow run" in listed
    assert SECRET not in listed
    for database in (source_db, target_db):
        seen = database.query("SELECT application_name, query FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert SECRET not in str(seen)
    said = [cdcflow(word, "--json").stdout for word in ("status", "check")]
    end_walsenders(source_db)  # what is said while it connects again counts too
    source_db.execute("INSERT INTO orders VALUES (700, 'again')")
    until(lambda: is_same(source_db, target_db, "orders"), what="it goes on")
    process.terminate()
    assert process.wait() == 0
    assert SECRET not in "".join([process.output(), *said])
    with psycopg.connect(target_db.url) as connection:
        state = connection.execute("SELECT source::text FROM cdcflow.checkpoints").fetchall()
    assert SECRET not in str(state)
