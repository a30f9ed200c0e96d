"""The position that an event carries: from the number in its batch's marks, in the source's own form."""

from __future__ import annotations

import pytest

from cdcflow.model.position import Position
from cdcflow.sources.mysql.position import OFFSET_BITS, Binlog
from cdcflow.sources.postgres.position import Lsn


@pytest.mark.parametrize(
    ("end", "number", "text"),
    [
        (Lsn(0x100), 0x16B3748, "0/16B3748"),
        (Binlog("binlog.000007", 500, None, "u"), 3 << OFFSET_BITS | 1234, "binlog.000003:1234@u"),
        (Binlog("a.b.1000000", 4, None, "u"), 999_999 << OFFSET_BITS | 4, "a.b.999999:4@u"),
        (Binlog("odd", 500, None, "u"), 120, "odd:120@u"),
    ],
)
def test_a_mark_is_a_position_of_its_batchs_log(end: Position, number: int, text: str) -> None:
    assert str(end.at(number)) == text
    assert type(end).parse(str(end.at(number))) == end.at(number)  # type: ignore[attr-defined]
