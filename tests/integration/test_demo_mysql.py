"""The demo with a MySQL or MariaDB as source: one of the tests' cache, or a server that a person named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from cdcflow.demo import comparing, mysqld, place, programs
from cdcflow.demo.shop_mysql import MysqlShop
from cdcflow.errors import AccessDenied, CdcflowError, UsageError
from tests.integration.test_demo_command import assert_the_demo_holds
from tests.servers.cache import ServerMissing
from tests.servers.fleet import MARIADB, MARIADB_OTHERWISE, MYSQL, MysqlLike, left_out
from tests.servers.mysql_server import MysqlServer
from tests.servers.mysql_trees import template, tree_of

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a demo"


@pytest.fixture(params=["mysql", "mariadb"])
def cached(request: pytest.FixtureRequest) -> str:
    """A flavour whose programs are in the cache, wherever the other tests' servers come from."""
    if left_out(request.param):
        pytest.skip("left out by CDCFLOW_TEST_WITHOUT")
    if request.param == "mysql":
        template(tree_of("mysql", MYSQL))
        return "mysql"
    try:
        template(tree_of("mariadb", MARIADB))
    except ServerMissing:
        template(tree_of("mariadb", MARIADB_OTHERWISE))
    return "mariadb"


@pytest.fixture
def other(mysql_source: MysqlLike) -> Iterator[str]:
    """The URL of a server that somebody else runs, with a database that is not there."""
    yield mysql_source.url("demo of a test")
    assert not mysql_source.query("SHOW DATABASES LIKE 'demo of a test'")


def test_a_server_of_the_cache_is_started_filled_and_removed(folder: Path, cached: str) -> None:
    built = place.build(folder, cached)
    try:
        assert isinstance(built.shop, MysqlShop)
        answers = {built.source.running}
        made = built.fill(2_000)
        assert sum(made.values()) > 1_000
        with pytest.raises(AccessDenied):
            MysqlShop(mysqld.named(f"{cached}://root@127.0.0.1:{_port(built.source.url())}")[0], "shop").exists()
        assert built.source.password not in built.config.read_text() + (folder / "demo.json").read_text()
        assert [key for (key,), _ in built.shop.records("customers")] == list(range(1, made["customers"] + 1))
        mark = built.shop.mark()
        assert built.shop.moments()[mark] > 1_700_000_000
    finally:
        left = place.remove(folder)
    assert left == []
    answers.add(built.source.running)
    assert answers == {True, False}
    assert not folder.exists()


def test_the_comparison_across_engines_is_of_every_column(folder: Path, other: str) -> None:
    built = place.build(folder, other)
    try:
        built.fill(2_000)
        schema = built.shop.schema
        with psycopg.connect(built.target.url(place.DATABASE), autocommit=True) as target:
            target.execute(f'create schema "{schema}"'.encode())
            target.execute(f'set search_path = "{schema}"'.encode())
            for table, columns in _COLUMNS.items():
                target.execute(f"create table {table} ({columns})".encode())
                with target.cursor().copy(f"copy {table} from stdin".encode()) as into:
                    for _, cells in built.shop.records(table):
                        into.write_row(cells)
            assert [found.differing for found in comparing.compare(built.shop, built.copy)] == [0] * 5
            target.execute("update orders set placed_at = placed_at + interval '1 microsecond' where id = 3")
            target.execute("update products set attributes = replace(attributes::text, ' ', '')::json where id = 4")
            target.execute("update events set session = '' where id = 5")
            target.execute("delete from order_items where order_id = 7")
        found = {difference.table: difference for difference in comparing.compare(built.shop, built.copy)}
        assert found["orders"].examples == ("3",)
        assert found["products"].examples == ("4",)
        assert found["events"].examples == ("5",)
        assert found["order_items"].differing == 4
        assert found["customers"].differing == 0
    finally:
        place.remove(folder)


def test_a_database_that_is_there_is_neither_used_nor_dropped(folder: Path, mysql_source: MysqlLike) -> None:
    mysql_source.query("CREATE DATABASE theirs")
    try:
        with pytest.raises(UsageError, match="has a database theirs already"):
            place.build(folder, mysql_source.url("theirs"))
        assert not folder.exists()
        assert mysql_source.query("SHOW DATABASES LIKE 'theirs'")
    finally:
        mysql_source.query("DROP DATABASE theirs")


def test_what_a_server_that_is_gone_keeps_is_said_when_all_else_is_removed(
    folder: Path, new_mysql_server: Callable[..., MysqlServer]
) -> None:
    server = new_mysql_server("mysql", "9.7").start()
    built = place.build(folder, server.url("shop"))
    built.shop.fill(1_000)
    server.stop()
    with pytest.raises(CdcflowError, match="database shop could not be dropped") as caught:
        place.remove(folder)
    assert caught.value.do == "DROP DATABASE `shop`"
    assert not built.target.running
    assert not folder.exists()


@pytest.mark.parametrize("source", ["mongodb://localhost", "oracle", "postgresql://db1/shop"])
def test_a_source_that_the_demo_does_not_know_is_refused(folder: Path, source: str) -> None:
    with pytest.raises(UsageError, match="--source is none"):
        place.build(folder, source)
    assert not folder.exists()


def test_without_a_server_at_hand_the_message_says_how_to_name_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDCFLOW_CACHE", str(tmp_path / "empty"))
    with pytest.raises(UsageError) as caught:
        place.build(folder, "mariadb")
    assert "no MariaDB at hand" in caught.value.what
    assert "--source mariadb://root:password@127.0.0.1:3306" in caught.value.do
    assert caught.value.at == str(programs.cache_folder())
    assert not folder.exists()


@pytest.mark.parametrize("cached", ["mariadb"], indirect=True)  # the whole of it takes a minute
def test_the_demo_with_a_server_of_the_cache_ends_with_no_difference(tmp_path: Path, cached: str) -> None:
    assert_the_demo_holds(tmp_path, "--source", cached)


def test_the_demo_with_a_server_of_somebody_else_drops_its_database(tmp_path: Path, other: str) -> None:
    assert_the_demo_holds(tmp_path, "--source", other)


def _port(url: str) -> int:
    return urlsplit(url).port or 0


# What the text of each column is equal to in PostgreSQL.
_COLUMNS = {
    "customers": "id bigint, name text, email text, country char(2), active smallint, credit numeric(12,2),"
    " joined_at timestamptz",
    "products": "id bigint, sku text, name text, price numeric(12,2), stock int, attributes json, description text",
    "orders": "id bigint, customer_id bigint, status text, total numeric(12,2), placed_at timestamp, delivery date,"
    " note text",
    "order_items": "order_id bigint, line int, product_id bigint, quantity int, price numeric(12,2)",
    "events": "id bigint, at timestamptz, kind text, session bytea, channel text, payload json",
}
