"""Texts, keys and names of MySQL and MariaDB that PostgreSQL cannot hold, or only just."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cdcflow.errors import ConfigError, RowRejected
from cdcflow.model.frame import UNCHANGED
from cdcflow.model.schema import Index, TableName
from cdcflow.targets.postgres import PostgresTarget
from tests.integration.mysql_kinds import (
    ONE,
    UNICODE_TABLE,
    done,
    my,
    my_id,
    my_table,
    texts,
)
from tests.integration.target_feed import Fed
from tests.integration.target_shapes import route
from tests.servers.database import Database


@pytest.fixture
def fed(target_db: Database) -> Iterator[Fed]:
    fed = Fed(target_db)
    yield fed
    fed.close()


# -- U+0000, which MySQL's text may hold

NUL = my_table(my_id(), my("v"), my("w"))


def refused(caught: pytest.ExceptionInfo[RowRejected]) -> None:
    assert "U+0000" in caught.value.what
    assert "table shop.t" in caught.value.at
    assert "id" in caught.value.at
    assert "17" in caught.value.at
    assert "column" in caught.value.at
    assert "secret" not in caught.value.report()


@pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])
@pytest.mark.parametrize("keyed", [True, False], ids=["by key", "without a key"])
def test_text_with_the_character_zero_is_refused_and_never_cut(
    fed: Fed, target_db: Database, large: bool, keyed: bool
) -> None:
    wanted = route(NUL if keyed else replace(NUL, key=(), primary_key=()))
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"17", b"x", b"y"])])
    before = fed.target.flush(force=True)
    with pytest.raises(RowRejected) as caught:
        fed.apply(
            wanted,
            [("I", None, [b"18", b"x", b""]), ("U", [b"17", b"x", b"y"], [b"17", b"x", b"secret\0z"])],
            large=large,
        )
    if keyed:
        refused(caught)
    with pytest.raises(RowRejected) as caught:
        fed.apply(wanted, [("I", None, [b"1", b"x", b""]), ("I", None, [b"17", b"secret\0z", b"y"])], large=large)
    assert "U+0000" in caught.value.what
    assert target_db.query("SELECT id, v, w FROM shop.t") == [(17, "x", "y")]
    fed.target.begin("p", fed.epoch)
    assert before is not None
    assert target_db.value("SELECT position FROM cdcflow.checkpoints") == str(before)


def test_a_key_with_the_character_zero_is_refused(fed: Fed, target_db: Database) -> None:
    wanted = route(my_table(my("id", nullable=False), my("v")))
    fed.target.create(wanted)
    fed.apply(wanted, [("I", None, [b"a", b"x"])])
    with pytest.raises(RowRejected) as caught:
        fed.apply(wanted, [("D", [b"a\0b", UNCHANGED], None)] * 2, large=True)
    assert "a\\0b" in caught.value.at
    assert texts(target_db, "v") == ["x"]


@pytest.mark.parametrize("merge", [False, True])
def test_a_copied_text_with_the_character_zero_is_refused(fed: Fed, target_db: Database, merge: bool) -> None:
    wanted = route(NUL)
    fed.target.create(wanted)
    loader = fed.target.loader()
    with pytest.raises(RowRejected) as caught:
        loader.load(wanted, ONE, [b"1\ta\tb\n17\tx\tsecret\0z\n", b"18\ta\tb\n"], done, merge=merge)
    refused(caught)
    assert "column w" in caught.value.at
    loader.close()
    assert target_db.value("SELECT count(*) FROM shop.t") == 0


# -- names


@pytest.mark.parametrize("name", ["Mixed Case", "50%", "a.b", "x`y", UNICODE_TABLE, "%s"])
def test_names_are_kept(target_db: Database, name: str) -> None:
    target = PostgresTarget(target_db.url, "shop")
    source = replace(
        my_table(replace(my_id(identity="by default"), name=name), key=(name,)), name=TableName(name, name)
    )
    wanted = replace(route(source), target=TableName(name, name))
    target.create(wanted)
    target.finish([wanted])
    assert not [each for each in target.check([wanted]) if each.level != "ok"]
    assert target_db.query("SELECT schemaname, tablename FROM pg_tables WHERE tablename = %s", [name]) == [(name, name)]


def test_a_name_too_long_for_postgresql_is_a_blocker(target_db: Database) -> None:
    wanted = route(my_table(my_id(), my("c" * 64)))
    found = [each for each in PostgresTarget(target_db.url, "shop").check([wanted]) if each.level == "blocker"]
    assert [each.name for each in found] == ["target.name"]


@pytest.mark.parametrize(
    ("name", "column", "word"), [("pg_shop.t", "v", "pg_shop"), ("shop.t", "ctid", "ctid"), ("shop.t", "xmin", "xmin")]
)
def test_a_name_that_postgresql_keeps_for_itself_is_a_blocker(
    target_db: Database, name: str, column: str, word: str
) -> None:
    wanted = route(my_table(my_id(), my(column), name=name))
    target = PostgresTarget(target_db.url, "shop")
    found = [each for each in target.check([wanted]) if each.level == "blocker"]
    assert [(each.name, word in each.found) for each in found] == [("target.name", True)]
    with pytest.raises(ConfigError, match=word):
        target.create(wanted)


@pytest.mark.parametrize("large", [False, True], ids=["a small batch", "a large batch"])
def test_a_value_too_long_for_an_index_is_told_with_its_row(fed: Fed, target_db: Database, large: bool) -> None:
    wide = Index("v", ("v",), False, "CREATE INDEX `v` ON `shop`.`t` (`v`)")
    wanted = route(my_table(my_id(), my("v", "varchar(3072)"), indexes=(wide,)))
    fed.target.create(wanted)
    fed.target.finish([wanted])
    with pytest.raises(RowRejected) as caught:
        fed.apply(wanted, [("I", None, [b"17", base64.b85encode(random.Random(5).randbytes(2400))])], large=large)
    assert "17" in caught.value.at
    assert "t_v" in caught.value.why
