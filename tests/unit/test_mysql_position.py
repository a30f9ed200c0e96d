"""Positions in a binary log, and sets of transactions against a model that keeps every number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdcflow.model.position import Position
from cdcflow.sources.mysql.gtids import MariadbGtids, MysqlGtids
from cdcflow.sources.mysql.position import Binlog, file_number

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "3e11fa47-71ca-11e1-9e33-c80aa9429563"
SOURCES = [A, B, f"{A}:tag", f"{B}:x_1"]

Model = frozenset[tuple[str, int]]
MODELS = st.frozensets(st.tuples(st.sampled_from(SOURCES), st.integers(1, 30)), max_size=40)


def made_of(model: Model) -> MysqlGtids:
    """A set with these transactions, one text for each."""
    return MysqlGtids.parse(",".join(f"{source}:{number}" for source, number in sorted(model)))


def numbers(gtids: MysqlGtids) -> Model:
    return frozenset(
        (source, number)
        for source, intervals in gtids.sets.items()
        for first, last in intervals
        for number in range(first, last + 1)
    )


@given(MODELS, MODELS)
def test_sets_do_what_sets_of_numbers_do(one: Model, other: Model):
    first, second = made_of(one), made_of(other)
    assert numbers(first) == one
    assert numbers(first.union(second)) == one | other
    assert numbers(first.minus(second)) == one - other
    assert first.covers(second) == (one >= other)
    assert (first == second) == (one == other)
    assert bool(first) == bool(one)
    assert all(first.contains(*each) == (each in one) for each in other | one)
    if one == other:
        assert hash(first) == hash(second)


@given(MODELS)
def test_text_and_bytes_of_a_set_read_back(model: Model):
    gtids = made_of(model)
    assert MysqlGtids.parse(str(gtids)) == gtids
    assert str(MysqlGtids.parse(str(gtids))) == str(gtids)
    assert MysqlGtids.decode(gtids.encode()) == gtids


@given(MODELS, st.lists(st.tuples(st.sampled_from(SOURCES), st.integers(1, 40)), max_size=60))
@settings(max_examples=200)
def test_transactions_added_one_by_one_in_any_order_are_all_in_the_set(start: Model, added: list[tuple[str, int]]):
    gtids, model = made_of(start), set(start)
    for source, number in added:
        before = str(gtids)
        grown = gtids.add(source, number)
        model.add((source, number))
        assert numbers(grown) == model
        assert grown == made_of(frozenset(model))
        assert str(grown) == str(made_of(frozenset(model)))
        assert str(gtids) == before  # the older one has not moved
        gtids = grown


@given(MODELS, st.sampled_from(SOURCES), st.integers(1, 30), st.integers(0, 10))
def test_run_of_transactions_is_added_at_once(start: Model, source: str, first: int, more: int):
    grown = made_of(start).add_run(source, first, first + more)
    assert numbers(grown) == start | {(source, number) for number in range(first, first + more + 1)}


def test_next_transaction_of_the_same_server_costs_the_same_in_a_large_set():
    large = MysqlGtids({A: tuple((n, n) for n in range(1, 100_001, 2)), B: ((1, 5),)}).add(B, 6)
    grown = large.add(B, 7)
    assert grown._rest is large._rest  # nothing was copied
    assert numbers(grown.minus(large)) == {(B, 7)}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", ""),
        (" ", ""),
        (f"{A.upper()}:1-5", f"{A}:1-5"),
        (f"{A}:1-3:4-5,\n{A}:9", f"{A}:1-5:9"),
        (f"{A}:tag:1-3:2-7", f"{A}:tag:1-7"),
        (f"{A}:1:tag:1-3:Other:5", f"{A}:1:other:5:tag:1-3"),
        (f"{B}:1,{A}:1", f"{A}:1,{B}:1"),
        (f"{A.replace('-', '')}:7", f"{A}:7"),
        (f"{A}:5-3", ""),
    ],
)
def test_set_is_read_as_the_server_writes_it(text: str, written: str):
    assert str(MysqlGtids.parse(text)) == written


@pytest.mark.parametrize(
    "text", ["x", A, f"{A}:0", f"{A}:1-", f"{A}:9223372036854775807", f"{A}:1,:2", f"{A}:1-x", "1-5"]
)
def test_text_that_is_no_set_is_refused(text: str):
    with pytest.raises(ValueError, match="not a GTID set"):
        MysqlGtids.parse(text)


def test_untagged_and_tagged_sets_have_their_own_binary_form():
    plain = MysqlGtids.parse(f"{A}:1-5")
    assert plain.encode().hex() == (
        "0100000000000000" + A.replace("-", "") + "0100000000000000" + "0100000000000000" + "0600000000000000"
    )
    tagged = MysqlGtids.parse(f"{A}:1-5:ab:7")
    assert tagged.encode().hex() == (
        "0102000000000001"
        + (A.replace("-", "") + "00" + "0100000000000000" + "0100000000000000" + "0600000000000000")
        + (A.replace("-", "") + "046162" + "0100000000000000" + "0700000000000000" + "0800000000000000")
    )


@given(st.binary(max_size=80))
def test_bytes_that_are_no_set_are_refused_and_nothing_else_happens(data: bytes):
    try:
        gtids = MysqlGtids.decode(data)
    except ValueError:
        return
    assert MysqlGtids.decode(gtids.encode()) == gtids


@given(st.data())
def test_cut_off_bytes_of_a_set_are_refused(data: st.DataObject):
    encoded = made_of(data.draw(MODELS.filter(bool))).encode()
    with pytest.raises(ValueError, match="too early"):
        MysqlGtids.decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(ValueError, match="bytes follow"):
        MysqlGtids.decode(encoded + b"\0")


def test_mariadb_position_has_the_last_transaction_of_each_domain():
    position = MariadbGtids.parse("1-2-5, 0-1-100")
    assert str(position) == "0-1-100,1-2-5"
    assert position.domains == {0: (1, 100), 1: (2, 5)}
    assert str(position.add(0, 3, 101)) == "0-3-101,1-2-5"
    assert str(position) == "0-1-100,1-2-5"
    assert position.covers(MariadbGtids.parse("0-9-100"))
    assert position.covers(MariadbGtids())
    assert not position.covers(MariadbGtids.parse("0-1-101"))
    assert not position.covers(MariadbGtids.parse("2-1-1"))
    assert not position.covers(MysqlGtids())
    assert not MysqlGtids().covers(position)
    assert str(MariadbGtids.parse("0-1-7,0-2-9,0-3-8")) == "0-2-9"
    for text in ("0-1", "0-1-x", "a", "0-1-2-3", "-0-1-2"):
        with pytest.raises(ValueError, match="not a list of MariaDB GTIDs"):
            MariadbGtids.parse(text)


@pytest.mark.parametrize(
    "position",
    [
        Binlog("binlog.000003", 1234, MysqlGtids.parse(f"{A}:1-5:7:tag:1-3,{B}:9"), A),
        Binlog("binlog.000003", 1234, MysqlGtids(), A),
        Binlog("binlog.000003", 1234, None, A),
        Binlog("mysql bin@:5@x.000003", 4, None, ""),
        Binlog("a\nb.000003", 4, MariadbGtids.parse("0-1-100,1-2-5"), "1-00ff00ff"),
        Binlog("maria.1000000", 1 << 40, MariadbGtids(), "7"),
    ],
)
def test_position_reads_back_from_its_text(position: Binlog):
    assert Binlog.parse(str(position)) == position
    assert isinstance(position, Position)


@pytest.mark.parametrize(
    "text", ["", "x", "x:1", "x:-1@s", ":1@s", f"x:1@s mysql:{A}:1", "x:1@s pg=1", "x:1@s mysql=1"]
)
def test_text_that_is_no_position_is_refused(text: str):
    with pytest.raises(ValueError, match="not a "):
        Binlog.parse(text)


def at(file: str, offset: int, gtids: str | None = None, server: str = A) -> Binlog:
    return Binlog(file, offset, None if gtids is None else MysqlGtids.parse(gtids), server)


def test_on_one_server_the_place_in_its_files_decides():
    assert at("b.000002", 4).covers(at("b.000001", 9999))
    assert at("b.1000000", 4).covers(at("b.999999", 9999))  # the suffix is a number
    assert not at("b.999999", 9999).covers(at("b.1000000", 4))
    assert at("b.000001", 200).covers(at("b.000001", 200))
    assert not at("b.000001", 199).covers(at("b.000001", 200))
    # GTIDs of one server that say otherwise were not exact; the place is.
    assert at("b.000001", 200, f"{A}:1-5").covers(at("b.000001", 200, f"{A}:1-6"))


def test_between_servers_the_transactions_decide():
    here, there = at("b.000001", 4, f"{A}:1-9"), at("c.000900", 9999, f"{A}:1-8", B)
    assert here.covers(there)
    assert not there.covers(here)
    assert not at("b.000009", 4).covers(at("b.000001", 4, None, B))
    assert not at("b.000009", 4, f"{A}:1-9").covers(at("b.000001", 4, None, B))
    # A log that was given another name begins with 1 again.
    assert at("new.000001", 4, f"{A}:1-9").covers(at("old.000070", 4, f"{A}:1-9"))
    assert not at("new.000001", 4).covers(at("old.000070", 4))


def test_distance_is_in_bytes_where_it_can_be_known():
    assert at("b.000001", 300).distance(at("b.000001", 100)) == 200
    assert at("b.000001", 100).distance(at("b.000001", 300)) == -200
    assert at("b.000003", 100).distance(at("b.000001", 300)) is None
    end = Binlog("b.000003", 100, None, A, {"b.000001": 1000, "b.000002": 500, "b.000003": 100})
    assert end.distance(at("b.000001", 300)) == 700 + 500 + 100
    assert at("b.000001", 300).distance(end) == -1300
    assert end.distance(at("b.000000", 300)) is None  # gone
    assert end.distance(at("b.000001", 300, None, B)) is None


def test_file_number_is_what_stands_behind_the_last_dot():
    assert file_number("my.log.000010") == ("my.log", 10)
    assert file_number("binlog") is None
    assert file_number("binlog.00x") is None


def test_where_prepared_transactions_begin_is_part_of_the_text():
    for gtids in (None, MysqlGtids.parse(f"{A}:1-5"), MariadbGtids.parse("0-1-5")):
        position = Binlog("b.000003", 100, gtids, A, prepared=("b.000001", 4))
        assert Binlog.parse(str(position)).prepared == ("b.000001", 4)
        later = Binlog("b.000004", 7, gtids, A).after(position)
        assert (later.begin, Binlog.parse(str(later)).begin) == (("b.000001", 4), ("b.000001", 4))
        assert Binlog.parse(str(position)) == position
        assert Binlog.parse(str(Binlog("b.000003", 100, gtids, A))).prepared is None
