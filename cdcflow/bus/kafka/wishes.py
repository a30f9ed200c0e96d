"""Wishes for a new copy of a table, left in the topic where the table's publisher looks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cdcflow.bus.kafka.partitions import SHAPES
from cdcflow.bus.kafka.store import KafkaStore
from cdcflow.errors import UsageError

if TYPE_CHECKING:
    from cdcflow.bus.kafka.source import KafkaSource


def leave(source: KafkaSource, tables: Sequence[str]) -> list[str]:
    """Leave the wish; return a line for each table, named as on the bus.

    Raises:
        UsageError: no publisher of ours writes such a table.
        TargetUnavailable: the brokers do not answer.
    """
    left = set(tables)
    lines: list[str] = []
    publishers = [topic.removesuffix(SHAPES) for topic in source.schema_topics() if topic.endswith(SHAPES)]
    for publisher in publishers:
        store = KafkaStore(source.client, source.address, publisher, None)
        try:
            for number, record in sorted(store.tables(publisher).items()):
                if str(record.target) in left:
                    store.ask(publisher, [number])
                    left.discard(str(record.target))
                    lines.append(f'{record.target}: pipeline "{publisher}" will publish it once more')
        finally:
            store.close()
    if left:
        raise UsageError(
            f"no pipeline of cdcflow publishes {', '.join(sorted(left))}",
            at=source.address,
            why=f"looked at {', '.join(publishers) or 'no topic of shapes'}",
            do="ask for a new copy at the publisher: with Debezium, a signal of type execute-snapshot",
        )
    return lines
