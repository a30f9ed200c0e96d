"""A source that goes silent without closing its connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cdcflow.errors import SourceUnavailable
from cdcflow.sources.postgres import walsender
from cdcflow.sources.postgres.position import Lsn
from tests.servers.cluster import Cluster
from tests.servers.database import Database
from tests.servers.proxy import Proxy


def listen(stream: walsender.Walsender) -> None:
    """Receive for a minute: what was under way when the server went deaf may still come."""
    for _ in range(60):
        stream.receive(1, lagging=False)


def test_a_stream_that_hangs_is_given_up(
    source_db: Database,
    pg_source: Cluster,
    proxy: Callable[[Cluster], Proxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(walsender, "ASK_AFTER_SECONDS", 0.3)
    monkeypatch.setattr(walsender, "STATUS_SECONDS", 0.2)
    monkeypatch.setattr(walsender, "SILENCE_SECONDS", 5.0)
    source_db.execute("CREATE PUBLICATION silence FOR ALL TABLES")
    (start,) = source_db.query(
        "SELECT lsn::text FROM pg_create_logical_replication_slot('silence_' || current_database(), 'pgoutput')"
    )[0]
    slot = source_db.value("SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()")
    between = proxy(pg_source)
    stream = walsender.Walsender(between.through(source_db.url), slot, ["silence"], Lsn.parse(start))
    try:
        for _ in range(35):  # seven seconds of an idle, healthy server: its answers keep the stream
            stream.receive(0.2, lagging=False)
        between.hang()
        with pytest.raises(SourceUnavailable, match="silent"):
            listen(stream)
    finally:
        stream.close()
