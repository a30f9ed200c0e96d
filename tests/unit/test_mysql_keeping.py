"""What is asked of a server that does not keep its log for long enough."""

from __future__ import annotations

import pytest

from cdcflow.engines.mysql.connect import Flavour
from cdcflow.sources.mysql import keeping
from cdcflow.sources.mysql.check_server import Server
from cdcflow.sources.mysql.grants import Grants


@pytest.mark.parametrize(
    ("kind", "settings", "wanted", "said"),
    [
        (
            Flavour("mysql", (9, 7)),
            {"binlog_expire_logs_seconds": "1"},
            1 << 33,
            "binlog_expire_logs_seconds = 4294967295",
        ),
        (
            Flavour("mariadb", (11, 8)),
            {"binlog_expire_logs_seconds": "1"},
            1 << 33,
            "binlog_expire_logs_seconds = 8553600 ",
        ),
        (Flavour("mariadb", (10, 5)), {"expire_logs_days": "1"}, 1 << 33, "expire_logs_days = 99 "),
        (Flavour("mariadb", (10, 5)), {"expire_logs_days": "1"}, 259_201, "expire_logs_days = 4 "),
    ],
)
def test_log_is_asked_to_be_kept_for_no_longer_than_the_server_can(
    kind: Flavour, settings: dict[str, str], wanted: int, said: str
) -> None:
    assert said in keeping.longer(Server(kind, settings, Grants("", ())), wanted)
