"""The demo's folder: made whole, removed whole, and never at the cost of what somebody else put there."""

from __future__ import annotations

import stat
from pathlib import Path

import psycopg
import pytest

from cdcflow.demo import comparing, down, place, shop
from cdcflow.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a demo"


def test_two_servers_and_a_config_appear_and_disappear(folder: Path) -> None:
    built = place.build(folder)
    try:
        for cluster in (built.source, built.target):
            assert cluster.running
            with psycopg.connect(cluster.url()) as connection:
                assert connection.info.server_version // 10000 == 18
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(cluster.url(password="wrong")).close()
        assert built.source.password not in built.config.read_text()
        for word in ("source.password", "target.password", "demo.json"):
            assert stat.S_IMODE((folder / word).stat().st_mode) == 0o600
    finally:
        (folder / "notes.txt").write_text("mine")
        left = place.remove(folder)
    assert [path.name for path in left] == ["notes.txt"]
    assert not built.source.running
    assert not built.source.home.exists()
    (folder / "notes.txt").unlink()
    assert down(folder) == 0
    assert not folder.exists()


def test_a_folder_with_something_else_in_it_is_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    for act in (place.build, place.remove):
        with pytest.raises(UsageError) as caught:
            act(folder)
        assert caught.value.exit_code == 2
    assert (folder / "thesis.tex").read_text() == "mine"


def test_the_comparison_finds_missing_changed_and_extra_rows(folder: Path) -> None:
    built = place.build(folder)
    try:
        made = built.fill(2_000)
        assert sum(made.values()) > 1_000
        script = (Path(shop.__file__).parent / "shop_postgres.sql").read_text().partition("insert into customers")[0]
        with psycopg.connect(built.target.url(place.DATABASE), autocommit=True) as target:
            target.execute(script.encode())
            with psycopg.connect(built.source.url(place.DATABASE)) as source:
                for table in shop.TABLES:
                    with (
                        source.cursor().copy(f"copy {table} to stdout".encode()) as out,
                        target.cursor().copy(f"copy {table} from stdin".encode()) as into,
                    ):
                        for block in out:
                            into.write(block)
            assert [found.differing for found in comparing.compare(built.shop, built.copy)] == [0] * 5
            assert built.shop.finished() == built.copy.finished()
            target.execute("update customers set credit = credit + 1 where id = 7")
            target.execute("delete from events where id in (3, 400)")
            target.execute("insert into events (id, kind, payload) values (99999, 'x', '{}'), (-1, 'x', '{}')")
        found = {difference.table: difference for difference in comparing.compare(built.shop, built.copy)}
        assert found["customers"].differing == 1
        assert found["customers"].examples == ("7",)
        assert found["events"].examples == ("-1", "3", "400", "99999")
        assert found["orders"].differing == 0
    finally:
        place.remove(folder)
