"""What stands around the rows of one writer, as ready JSON: of the source, of the transaction, of the event."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final, Literal

from cdcflow.bus.config import Decoding, Encoding
from cdcflow.bus.formats import Stamp
from cdcflow.model.schema import Table, TableName
from cdcflow.model.shape import text

# As bits of `codecs.busjson_cy.Rows.write`'s stamps.
NUMBERED_HEAD: Final = 1
NUMBERED_TRANSACTION: Final = 2
COPIED: Final = 4
KEYED_HEAD: Final = 8

Pieces = tuple[bytes, bytes, bytes, int]
Around = Literal["debezium", "flat", "structured", "binary"]

_LSN: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_BINLOG: Final = re.compile(r"(.*):(\d{1,18})@(\S*)(?: (?:mysql|mariadb)=(\S*))?.*", re.DOTALL)
# Not from the package itself, which knows the parts above this one.
_VERSION: Final = metadata.version("cdcflow")
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows come from: the pipeline's name, the source's engine and database, and the table as it has it."""

    pipeline: str
    engine: str
    database: str
    table: TableName


def around(encoding: Encoding | Decoding) -> Around:
    """Return what stands around a row. A reader is not told the mode of CloudEvents: it shows."""
    if encoding.envelope == "cloudevents":
        return encoding.mode if isinstance(encoding, Encoding) else "structured"
    return encoding.envelope


def pieces(origin: Origin, target: Table, form: Around, stamp: Stamp) -> Pieces:
    """Return (head, second head, what stands behind the images, flags) for rows of one transaction."""
    flags = COPIED if stamp.snapshot else 0
    if form == "flat":
        return b"", b"", b"", flags
    source = f',"source":{text(source_block(origin, stamp))}'
    if form == "debezium":
        number = transaction_id(stamp)
        if not number:
            return b"", b"", f'{source},"transaction":null'.encode(), flags
        opened = f'{source},"transaction":{{"id":{text(number)},"total_order":'
        return b"", b"", opened.encode(), flags | NUMBERED_TRANSACTION
    if form == "binary":
        return b"", b"", source.encode(), flags
    attributes = event(origin, target, stamp)
    head = f'{{"specversion":"1.0","id":{text(attributes.pop("id"))[:-1]}'
    rest = "".join(f",{text(name)}:{text(value)}" for name, value in attributes.items())
    flags |= NUMBERED_HEAD | (KEYED_HEAD if stamp.snapshot else 0)
    return head.encode(), f'"{rest},"data":'.encode(), source.encode(), flags


def tail(form: Around) -> bytes:
    """Return what ends each change, behind the letter of its op."""
    if form == "structured":
        return b'"}}'
    if form == "binary":
        return b'"}'
    now = time.time_ns()
    return b'","ts_ms":%d,"ts_us":%d,"ts_ns":%d}' % (now // 1_000_000, now // 1000, now)


def transaction_id(stamp: Stamp) -> str:
    """Return how a transaction is named: by its number at the source, or by where it was committed."""
    return "" if stamp.snapshot else stamp.number or stamp.position


def source_block(origin: Origin, stamp: Stamp) -> dict[str, Any]:
    """Return Debezium's block `source`, as far as the stamp tells."""
    name = origin.table
    postgres = origin.engine == "postgresql"
    block: dict[str, Any] = {
        "version": _VERSION,
        "connector": origin.engine,
        "name": origin.pipeline,
        "ts_ms": stamp.commit_us // 1000,
        "snapshot": "true" if stamp.snapshot else "false",
        "db": origin.database if postgres else name.schema,
        "sequence": None,
        "ts_us": stamp.commit_us,
        "ts_ns": stamp.commit_us * 1000,
    }
    if postgres:
        found = _LSN.fullmatch(stamp.position)
        lsn = int(found[1], 16) << 32 | int(found[2], 16) if found else None
        number = int(stamp.number) if stamp.number.isdecimal() else None
        return block | {"schema": name.schema, "table": name.table, "txId": number, "lsn": lsn, "xmin": None}
    at = _BINLOG.fullmatch(stamp.position)
    server = at[3] if at else ""
    return block | {
        "table": name.table,
        "server_id": int(server) if server.isdecimal() else 0,
        "gtid": at[4] if at else None,
        "file": at[1] if at else "",
        "pos": int(at[2]) if at else 0,
        "row": 0,
        "thread": None,
        "query": None,
    }


def event(origin: Origin, target: Table, stamp: Stamp) -> dict[str, str]:
    """Return a CloudEvent's attributes; `id` lacks the row's number (or its key, in a copy) at its end.

    https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
    """
    begun = f"snapshot/{target.name}" if stamp.snapshot else stamp.position or stamp.number
    attributes = {
        "id": f"{begun}/",
        "source": f"/cdcflow/{origin.engine}/{origin.pipeline}",
        "type": f"io.cdcflow.{origin.engine}.datachangeevent",
        "datacontenttype": "application/json",
        "subject": str(target.name),
    }
    if stamp.commit_us:
        moment = datetime.fromtimestamp(stamp.commit_us // _SECOND_US, UTC)
        attributes["time"] = f"{moment:%Y-%m-%dT%H:%M:%S}.{stamp.commit_us % _SECOND_US:06d}Z"
    return attributes
