"""Places in a log whose files got another name: which come before, which behind."""

from __future__ import annotations

import pytest

from cdcflow.codecs.binlog_cy import Decoder
from cdcflow.errors import PositionLost
from cdcflow.sources.mysql.gtids import MysqlGtids
from cdcflow.sources.mysql.position import OFFSET_BITS, Binlog
from cdcflow.sources.mysql.reach import Reach

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def reach(start: Binlog, begin: str) -> Reach:
    return Reach(Decoder(1 << 20), start, "s1", told="s1", begin=(begin, 4), at="source mysql://here")


def test_files_of_another_name_come_before_or_after_whatever_their_numbers() -> None:
    old, new = (Binlog(file, 500, MysqlGtids.parse(f"{A}:1-9"), "s1") for file in ("old.000900", "new.000001"))
    found = reach(old, "old.000900")
    assert found.start == found.serial(old) == 900 << OFFSET_BITS | 500
    found.rotate("new.000001", 4, ("old.000900", 4))
    assert found.start == found.serial(old) == 0
    assert found.serial(new) == 1 << OFFSET_BITS | 500

    # Reading begins early, for the sake of a prepared transaction.
    found = reach(new, "old.000900")
    assert found.start > found.serial(old) == 900 << OFFSET_BITS | 500
    found.rotate("old.000901", 4, ("old.000900", 4))
    assert found.start > 901 << OFFSET_BITS | 500
    found.rotate("new.000001", 4, ("old.000900", 4))
    assert found.start == found.serial(new) == 1 << OFFSET_BITS | 500


def test_files_of_a_name_that_may_come_before_or_after_are_told() -> None:
    start = Binlog("old.000900", 500, MysqlGtids.parse(f"{A}:1-9"), "s1")
    found = reach(start, start.file)
    assert found.serial(Binlog("oldest.000950", 4, MysqlGtids.parse(f"{A}:1-8"), "s1")) == 0
    for later in (MysqlGtids.parse(f"{A}:1-10"), None):
        with pytest.raises(PositionLost, match="which come first cannot be known"):
            found.serial(Binlog("new.000001", 4, later, "s1"))
