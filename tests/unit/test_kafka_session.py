"""What a transactional producer and the reader of the state make of failures, without brokers."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from cdcflow.bus.kafka import session, statetopic, topics
from cdcflow.bus.kafka.session import Session
from cdcflow.bus.kafka.statetopic import StateTopic
from cdcflow.errors import AccessDenied, CdcflowError, TargetUnavailable

if TYPE_CHECKING:
    from cdcflow.bus.kafka.waiting import Admin

REFUSED = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: the directory is away")
NO_TOKEN = KafkaError(KafkaError._AUTHENTICATION, "Failed to acquire SASL OAUTHBEARER token: no such tenant")
SILENT = KafkaError(KafkaError._TIMED_OUT, "the coordinator is away")


class _Producer:
    """Says what it is told to say. `heard`: what it tells of while its next call is under way."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._tell: Callable[[KafkaError], None] = settings["error_cb"]
        self.heard: list[KafkaError] = []
        self.failure: KafkaError | None = None
        self.aborts: list[KafkaError | None] = []  # the answers to come

    def __len__(self) -> int:
        return 0

    def init_transactions(self, seconds: float) -> None:
        self._answer()

    def begin_transaction(self) -> None:
        self._answer()

    def commit_transaction(self, seconds: float) -> None:
        self._answer()

    def purge(self, **how: bool) -> None: ...

    def abort_transaction(self, seconds: float) -> None:
        failure = self.aborts.pop(0)
        if failure is not None:
            raise KafkaException(failure)

    def poll(self, seconds: float) -> int:
        heard, self.heard = self.heard, []
        for error in heard:
            self._tell(error)
        return len(heard)

    def _answer(self) -> None:
        if self.failure is not None:
            raise KafkaException(self.failure)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[Session, _Producer]:
    made: list[_Producer] = []

    def make(settings: dict[str, Any]) -> _Producer:
        made.append(_Producer(settings))
        made[-1].heard = [REFUSED]  # by one broker of several, say
        return made[-1]

    monkeypatch.setattr(session, "Producer", make)
    one = Session({}, "here", "id")
    one.open()
    return one, made[-1]


def failure_of(one: Session, producer: _Producer) -> CdcflowError:
    """Return what a commit raises that brokers do not answer."""
    one.begin()
    producer.failure = SILENT
    with pytest.raises(CdcflowError) as raised:
        one.commit()
    producer.failure = None
    return raised.value


def test_a_login_refused_before_a_success_is_no_cause_of_a_later_outage(opened: tuple[Session, _Producer]) -> None:
    one, producer = opened
    assert isinstance(failure_of(one, producer), TargetUnavailable)
    one.begin()
    producer.heard = [REFUSED]
    one.commit()
    found = failure_of(one, producer)
    assert isinstance(found, TargetUnavailable)
    assert SILENT.str() in found.why


def test_a_login_refused_since_the_last_success_is_the_cause_of_an_outage(opened: tuple[Session, _Producer]) -> None:
    one, producer = opened
    producer.heard = [NO_TOKEN]
    found = failure_of(one, producer)
    assert isinstance(found, TargetUnavailable)
    assert "sasl.token_url" in found.do
    producer.heard = [REFUSED]
    assert isinstance(failure_of(one, producer), AccessDenied)


def again(code: int) -> KafkaError:
    """Return an error that says it is retriable."""
    return KafkaError(code, "not now", retriable=True)


@pytest.mark.parametrize("code", [KafkaError._CONFLICT, KafkaError._STATE])
def test_a_producer_whose_commit_is_under_way_is_given_up_at_once(opened: tuple[Session, _Producer], code: int) -> None:
    one, producer = opened
    failure_of(one, producer)
    producer.aborts = [again(code), None]
    one.abort()
    assert not one.is_open
    assert producer.aborts == [None]


def test_an_abort_that_may_be_tried_again_is_tried_after_a_pause(
    opened: tuple[Session, _Producer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    one, producer = opened
    one.begin()
    producer.aborts = [again(KafkaError.COORDINATOR_LOAD_IN_PROGRESS), again(KafkaError.NOT_COORDINATOR), None]
    one.abort()
    assert one.is_open
    assert len(pauses) == 2


def test_the_state_does_not_blame_a_login_that_was_refused_before_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Consumer:
        """Is told no, then reads to the end; from then on there is silence."""

        def __init__(self, settings: dict[str, Any]) -> None:
            settings["error_cb"](REFUSED)
            self._left: list[Any] = [
                SimpleNamespace(error=lambda: KafkaError(KafkaError._PARTITION_EOF), offset=lambda: 5)
            ]

        def assign(self, partitions: object) -> None: ...

        def unassign(self) -> None: ...

        def poll(self, seconds: float) -> Any:
            return self._left.pop() if self._left else None

        def consume(self, count: int, seconds: float) -> list[Any]:
            return []

    monkeypatch.setattr(statetopic, "Consumer", Consumer)
    monkeypatch.setattr(topics.Topics, "find", lambda _, names: names)
    state = StateTopic({}, cast("Admin", None), "here", "p")
    assert state.read() == {}
    monkeypatch.setattr(statetopic, "_READ_SECONDS", 0.0)
    with pytest.raises(TargetUnavailable):
        state.read()
