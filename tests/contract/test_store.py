"""What every state store promises, asked of each one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cdcflow.bus.kafka.config import Config
from cdcflow.bus.kafka.connection import address
from cdcflow.bus.kafka.store import KafkaStore
from cdcflow.errors import ConfigError, Fenced
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.position import Checkpoint
from cdcflow.model.schema import TableName
from cdcflow.state import SqlStore, lease, open_store
from tests.servers.kafka_server import Kafka
from tests.servers.waiting import until

OWNER = {"host": "here", "pid": "1"}
AnyStore = SqlStore | KafkaStore
OpenStore = Callable[[], AnyStore]


@pytest.fixture(params=["postgresql", "mysql", "mariadb", "sqlite", "kafka"])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "kafka":
        kafka: Kafka = request.getfixturevalue("kafka")
        yield kafka.url()
        for topic in {"shop.state", "stock.state", "Shop.state"} & set(kafka.topics()):
            kafka.delete_topic(topic)
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state.db"
    elif request.param == "postgresql":
        yield str(request.getfixturevalue("target_db").url)
    else:  # there the state is the server's, not a database's
        database = request.getfixturevalue(f"{request.param}_target_db")
        database.execute("DROP DATABASE IF EXISTS cdcflow")
        yield str(database.url)
        database.execute("DROP DATABASE IF EXISTS cdcflow")


@pytest.fixture
def another(state_url: str) -> Iterator[OpenStore]:
    """Opens one more store on the same state."""
    opened: list[AnyStore] = []

    def make() -> AnyStore:
        if state_url.startswith("kafka:"):
            config = Config(url=state_url)
            opened.append(KafkaStore(config.client, address(state_url), "shop", None))
        else:
            opened.append(open_store(state_url))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(another: OpenStore) -> AnyStore:
    store = another()
    store.migrate()
    return store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.0)


def record(number: int, state: TableState = TableState.PENDING, **more: object) -> TableRecord:
    name = TableName("Sh:op", f"t%{number}")
    return TableRecord(number, name, TableName("to", name.table), state, **more)  # type: ignore[arg-type]


def test_reading_a_state_that_was_never_made_finds_nothing(another: OpenStore) -> None:
    store = another()
    assert store.checkpoint("shop") is None
    assert store.tables("shop") == {}
    assert store.chunks("shop", 1) == []
    store.forget("shop")


def test_migrating_again_keeps_what_is_there(store: AnyStore, another: OpenStore) -> None:
    epoch = store.acquire("shop", OWNER)
    store.save(Checkpoint("shop", "0/5", {"system": "7"}, epoch))
    store.migrate()
    another().migrate()
    assert store.checkpoint("shop") == Checkpoint("shop", "0/5", {"system": "7"}, epoch)


def test_several_that_migrate_at_once_all_succeed(another: OpenStore) -> None:
    with ThreadPoolExecutor(4) as threads:
        for ended in [threads.submit(another().migrate) for _ in range(4)]:
            ended.result()
    assert another().checkpoint("shop") is None


def test_a_first_lease_begins_a_checkpoint_without_a_position(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    assert store.checkpoint("shop") == Checkpoint("shop", "", {}, epoch)


def test_every_lease_has_a_larger_epoch(store: AnyStore, another: OpenStore) -> None:
    epochs = []
    for _ in range(3):
        epochs.append(store.acquire("shop", OWNER))
        store.release()
    epochs.append(another().acquire("shop", OWNER))
    assert epochs == sorted(set(epochs))


def test_a_lease_keeps_the_position_of_the_one_before(store: AnyStore) -> None:
    store.save(Checkpoint("shop", "0/9", {"a": "b"}, store.acquire("shop", OWNER)))
    store.release()
    epoch = store.acquire("shop", OWNER)
    assert store.checkpoint("shop") == Checkpoint("shop", "0/9", {"a": "b"}, epoch)


@pytest.mark.usefixtures("impatient")
def test_a_second_instance_is_refused_and_told_who_runs(store: AnyStore, another: OpenStore) -> None:
    epoch = store.acquire("shop", OWNER)
    if isinstance(store, KafkaStore):  # brokers have no lease that ends with a session: who comes last is the one
        assert another().acquire("shop", {"host": "there"}) > epoch
        assert not store.held()
        with pytest.raises(Fenced) as shut_out:
            store.put("shop", epoch, [record(1)])
        assert shut_out.value.exit_code == 5
        return
    with pytest.raises(Fenced) as caught:
        another().acquire("shop", {"host": "there"})
    assert caught.value.exit_code == 5
    assert "host here" in caught.value.why
    assert "since" in caught.value.why
    assert caught.value.do
    assert store.held()


@pytest.mark.usefixtures("impatient")
def test_pipelines_do_not_disturb_one_another(store: AnyStore, another: OpenStore) -> None:
    store.acquire("shop", OWNER)
    other = another()
    epoch = other.acquire("stock", OWNER)
    other.put("stock", epoch, [record(1)])
    other.forget("stock")
    assert store.checkpoint("shop") is not None
    assert other.checkpoint("stock") is None


def test_a_released_lease_is_not_held(store: AnyStore) -> None:
    assert not store.held()
    store.acquire("shop", OWNER)
    assert store.held()
    store.release()
    store.release()
    assert not store.held()


def test_table_records_come_back_as_they_were_put(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    full = record(
        7,
        TableState.FAILED,
        copied_from="0/1",
        copied_upto="0/2",
        stamp="s",
        shape='{"a": 1}',
        rows=5_000_000_000,
        reason="r",
        hint="h",
    )
    store.put("shop", epoch, [full, record(4_294_967_295)])
    assert store.tables("shop") == {7: full, 4_294_967_295: record(4_294_967_295)}
    store.put("shop", epoch, [record(7, TableState.LIVE)])
    assert store.tables("shop")[7] == record(7, TableState.LIVE)


def test_dropped_tables_are_forgotten_and_the_others_stay(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    store.put("shop", epoch, [record(1), record(2)])
    store.drop("shop", epoch, [1])
    store.drop("shop", epoch, [])
    assert set(store.tables("shop")) == {2}


def test_a_writer_with_an_older_epoch_changes_nothing(store: AnyStore, another: OpenStore) -> None:
    old = store.acquire("shop", OWNER)
    store.put("shop", old, [record(1)])
    store.release()
    new = another().acquire("shop", OWNER)
    for write in (
        lambda: store.put("shop", old, [record(1, TableState.LIVE)]),
        lambda: store.drop("shop", old, [1]),
        lambda: store.save(Checkpoint("shop", "0/1", {}, old)),
        lambda: store.remember("shop", old, 1, "0/1", "s"),
    ):
        with pytest.raises(Fenced):
            write()
    assert store.tables("shop") == {1: record(1)}
    assert store.checkpoint("shop") == Checkpoint("shop", "", {}, new)


def test_a_writer_whose_checkpoint_was_removed_changes_nothing(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    store.forget("shop")
    with pytest.raises(Fenced, match="lease"):
        store.put("shop", epoch, [record(1)])
    assert store.tables("shop") == {}


def test_shapes_are_remembered_in_order_with_the_position_from_which_on_they_hold(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    assert store.history("shop") == {}
    store.remember("shop", epoch, 7, "0/1", "one")
    store.remember("shop", epoch, 7, "0/2", "two")
    store.remember("shop", epoch, 9, "0/2", "é")
    assert store.history("shop") == {7: [("0/1", "one"), ("0/2", "two")], 9: [("0/2", "é")]}
    assert store.history("stock") == {}


def test_a_shape_that_is_remembered_again_at_its_position_is_there_once(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    for position, shape in (("0/1", "one"), ("0/2", "two"), ("0/1", "other"), ("0/2", "two")):
        store.remember("shop", epoch, 7, position, shape)
    assert store.history("shop") == {7: [("0/1", "other"), ("0/2", "two")]}


def test_shapes_of_an_attempt_that_was_killed_do_not_outlive_those_of_the_next(store: AnyStore) -> None:
    """It joined two changes to one batch, which the next attempt applies one by one."""
    epoch = store.acquire("shop", OWNER)
    for position, shape in (("0/9", "two"), ("0/5", "one"), ("0/9", "two")):
        store.remember("shop", epoch, 7, position, shape)
    assert store.history("shop") == {7: [("0/5", "one"), ("0/9", "two")]}


def test_the_newest_fifty_shapes_of_a_table_are_kept(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    for number in range(60):
        store.remember("shop", epoch, 7, str(number), "s")
    assert [position for position, _ in store.history("shop")[7]] == [str(number) for number in range(10, 60)]


def test_shapes_go_with_the_copy_the_table_and_the_pipeline_that_they_belong_to(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    for table_id in (1, 2, 3, 4):
        store.remember("shop", epoch, table_id, "0/1", "s")
    store.put("shop", epoch, [record(1), record(2, TableState.LIVE)])
    store.drop("shop", epoch, [3])
    assert set(store.history("shop")) == {2, 4}
    store.forget("shop")
    assert store.history("shop") == {}


def test_a_position_and_a_shape_may_be_very_long(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    position, shape = "binlog.000001:4;" + "u:1-2," * 20_000, "x" * 200_000
    store.remember("shop", epoch, 7, position, shape)
    store.save(Checkpoint("shop", position, {}, epoch))
    assert store.history("shop") == {7: [(position, shape)]}
    seen = store.checkpoint("shop")
    assert seen is not None
    assert seen.position == position


def test_a_wish_for_a_copy_stays_until_the_table_waits_for_it(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    store.put("shop", epoch, [record(1, TableState.LIVE), record(2, TableState.LIVE)])
    store.ask("shop", [1, 2])
    store.put("shop", epoch, [record(1, TableState.LIVE), record(2)])
    assert store.asked("shop") == [1]


def test_names_differ_by_case_and_accent(store: AnyStore, another: OpenStore) -> None:
    store.acquire("shop", OWNER)
    other = another()
    epoch = other.acquire("Shop", OWNER)
    other.put("Shop", epoch, [record(1)])
    assert store.tables("shop") == {}
    assert set(other.tables("Shop")) == {1}


def test_forgetting_a_pipeline_leaves_nothing_of_it(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    store.put("shop", epoch, [record(1)])
    store.forget("shop")
    assert store.checkpoint("shop") is None
    assert store.tables("shop") == {}


def test_threads_that_put_the_same_tables_do_not_disturb_one_another(store: AnyStore) -> None:
    epoch = store.acquire("shop", OWNER)
    records = [record(number) for number in range(20)]
    with ThreadPoolExecutor(4) as threads:
        ended = [threads.submit(store.put, "shop", epoch, records[::step]) for step in (1, -1) * 10]
        for each in ended:
            each.result()
    assert store.tables("shop") == {each.table_id: each for each in records}


def test_the_status_of_a_pipeline_says_whether_it_runs(store: AnyStore, another: OpenStore) -> None:
    store.acquire("shop", OWNER)
    seen = another().remembered("shop")
    assert seen is not None
    assert seen.running
    assert seen.owner == OWNER
    store.release()

    def released() -> bool:
        """The session that held it may be there for a moment."""
        seen = another().remembered("shop")
        assert seen is not None
        return not seen.running

    until(released, what="the server sees that it does not run")


def test_a_url_that_no_store_is_behind_is_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        open_store("oracle://u:s3cr3t@h/d")
    assert "s3cr3t" not in caught.value.report()
