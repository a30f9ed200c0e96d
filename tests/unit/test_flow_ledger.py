"""What may be acknowledged: only what is durable, nothing that a copy still needs, never backwards."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cdcflow.flow.ledger import Ledger, earlier, later
from tests.unit.flow_world import At


class Source:
    def __init__(self) -> None:
        self.acks: list[int] = []

    def ack(self, upto: object) -> None:
        assert isinstance(upto, At)
        self.acks.append(upto.value)


def test_nothing_is_acknowledged_before_the_target_called_it_durable() -> None:
    ledger, source = Ledger(At(5)), Source()
    ledger.attach(source)
    ledger.apply(At(9), durable=False)
    ledger.settle()
    assert source.acks == []
    ledger.flushed(At(7))
    ledger.settle()
    assert source.acks == [7]
    assert ledger.waits
    ledger.flushed(At(9))
    ledger.settle()
    assert source.acks[-1] == 9
    assert not ledger.waits


def test_a_table_that_is_copied_holds_the_log_at_its_start() -> None:
    ledger, source = Ledger(At(5)), Source()
    ledger.attach(source)
    ledger.hold(1, At(8))
    ledger.hold(2, At(6))
    ledger.apply(At(20), durable=True)
    ledger.settle()
    ledger.let_go(2)
    ledger.settle()
    ledger.let_go(1)
    ledger.settle()
    assert source.acks == [6, 8, 20]


def test_while_a_copy_looks_for_its_start_nothing_new_is_acknowledged() -> None:
    ledger, source = Ledger(At(5)), Source()
    ledger.attach(source)
    ledger.freeze()
    ledger.apply(At(20), durable=True)
    ledger.settle()
    ledger.hold(1, At(12))
    ledger.thaw()
    ledger.settle()
    assert source.acks == [12]


def test_without_a_stream_nothing_is_told_and_the_next_one_hears_it() -> None:
    ledger, source = Ledger(At(5)), Source()
    ledger.apply(At(20), durable=True)
    ledger.settle()
    ledger.attach(source)
    ledger.settle()
    assert source.acks == [20]


class LedgerMachine(RuleBasedStateMachine):
    """Any order of applying, flushing, holding and settling."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger, self.source = Ledger(At(0)), Source()
        self.ledger.attach(self.source)
        self.applied, self.durable = 0, 0
        self.holds: dict[int, int] = {}

    @rule(step=st.integers(0, 10), durable=st.booleans())
    def apply(self, step: int, durable: bool) -> None:
        self.applied += step
        self.ledger.apply(At(self.applied), durable=durable)
        if durable:
            self.durable = self.applied

    @rule(back=st.integers(0, 20))
    def flush(self, back: int) -> None:
        position = max(0, self.applied - back)
        self.ledger.flushed(At(position))
        self.durable = max(self.durable, position)

    @rule(number=st.integers(1, 3), ahead=st.integers(0, 5))
    def hold(self, number: int, ahead: int) -> None:
        self.holds[number] = self.applied + ahead
        self.ledger.hold(number, At(self.applied + ahead))

    @rule(number=st.integers(1, 3))
    def let_go(self, number: int) -> None:
        self.holds.pop(number, None)
        self.ledger.let_go(number)

    @rule()
    def settle(self) -> None:
        self.ledger.settle()

    @invariant()
    def acknowledged_is_durable_and_held_back(self) -> None:
        for position in self.source.acks[-1:]:
            assert position <= self.durable
            assert all(position <= held for held in self.holds.values())
        assert self.source.acks == sorted(self.source.acks)


TestLedgerMachine = LedgerMachine.TestCase


def test_earlier_and_later_keep_the_first_of_two_equals() -> None:
    one, other = At(3), At(3)
    assert later(one, other) is one
    assert earlier(one, other) is one
    assert (later(At(1), At(2)), earlier(At(1), At(2))) == (At(2), At(1))
