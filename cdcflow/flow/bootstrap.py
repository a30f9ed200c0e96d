"""From nothing, or from whatever a killed run left, to tables that are copied and a log that can be followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from cdcflow.errors import AccessDenied, ConfigError, PositionLost, TableRefused, UsageError
from cdcflow.flow import lifecycle
from cdcflow.flow.copying import Round
from cdcflow.flow.parts import Parts
from cdcflow.flow.roster import Roster
from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.ports import Snapshot, Source, Target
from cdcflow.model.position import Checkpoint, Position
from cdcflow.model.route import Route
from cdcflow.model.schema import TableName
from cdcflow.ops.faults import moment
from cdcflow.ops.logs import get_logger
from cdcflow.rules import Plan

log = get_logger(__name__)

# Between two views of a table that is altered while it is copied.
AGAIN_SECONDS = 0.5


@dataclass(slots=True)
class Log:
    """Where the log goes on. `snapshot` is the view that it begins with, when the slot was made just now, and
    `stamps` the tables' fingerprints from before that."""

    checkpoint: Checkpoint
    snapshot: Snapshot | None = None
    stamps: dict[int, str] | None = None


def examine(parts: Parts) -> Plan:
    """Route the source's tables by the rules, and refuse what must not be. Changes nothing.

    Raises:
        ConfigError: a rule that matches nothing, two tables with one target, a table that is its own target.
        TableRefused: names every table that must not be captured as it is, with the statement that mends it.
    """
    plan = parts.rules.plan(parts.source.tables())
    refuse(parts, plan.routes)
    itself(parts.source, parts.target, plan.routes)
    return plan


def itself(source: Source, target: Target, routes: Iterable[Route]) -> None:
    """Raise ConfigError where source and target are one database and a table would be copied into itself."""
    where = target.identity()
    try:
        here = source.identity()
    except AccessDenied:
        return  # it cannot be captured from either, which `check` and the next step say
    if not where or any(here.get(name) != value for name, value in where.items()):
        return
    same = [str(route.source.name) for route in routes if route.source.name == route.target]
    if same:
        raise ConfigError(
            "source and target are the same database, and a table would be copied into itself",
            at=f"target {target.address}",
            why=", ".join(same[:10]) + (f" and {len(same) - 10} more" if len(same) > 10 else ""),
            do="correct one of the URLs, or give the tables other names with `to:` in the rules",
        )


def enlist(parts: Parts, epoch: int, plan: Plan) -> Roster:
    """Remember each table as pending that is new to the state."""
    for finding in plan.findings:
        log.debug("rules", level=str(finding.level), subject=finding.subject, found=finding.found)
    roster = Roster(parts, epoch)
    roster.load(parts.store.tables(parts.settings.pipeline), plan.routes)
    return roster


def refuse(parts: Parts, routes: Iterable[Route]) -> None:
    """Raise TableRefused where capturing a table would break the application's own statements."""
    found = [(route, finding) for route in routes if (finding := parts.source.refusal(route.source, route))]
    if not found:
        return
    names = ", ".join(str(route.source.name) for route, _ in found)
    one = len(found) == 1
    raise TableRefused(
        f"table{'' if one else 's'} {names} cannot be captured as {'it is' if one else 'they are'}",
        at=f"source {parts.source.address}",
        why="\n".join(f"{route.source.name}: {finding.found}" for route, finding in found),
        do="\n".join(finding.do for _, finding in found),
    )


def open_log(parts: Parts, roster: Roster) -> Log:
    """Return where to go on; make slot, publication and first checkpoint where there are none.

    The order makes every moment safe to be killed in: the pending records say that a slot without a checkpoint
    is an unfinished attempt of ours, and the checkpoint says that the slot is whole.

    Raises:
        PositionLost, SourceChanged: the checkpoint and the source do not belong together any more.
    """
    source, store, pipeline = parts.source, parts.store, parts.settings.pipeline
    checkpoint = store.checkpoint(pipeline)
    if checkpoint is not None and checkpoint.position:
        source.resume(checkpoint)
        who = dict(source.identity())
        if who != checkpoint.source:  # a failover that lost nothing: what comes next is compared with this server
            # A copy may hold rows from behind the checkpoint that the new history does not have.
            for table_id in roster.ids(TableState.COPYING, TableState.CATCHING_UP):
                roster.change(table_id, lifecycle.again)
            checkpoint = Checkpoint(pipeline, checkpoint.position, who, roster.epoch)
            store.save(checkpoint)
        return Log(checkpoint)
    records = roster.records()
    begun = any(record.state is not TableState.PENDING for record in records)
    if begun or (source.prepared() and not roster.known_before):
        raise PositionLost(
            f'the target remembers no position of pipeline "{pipeline}"',
            at=f"target {parts.target.address}",
            why="the source keeps log for this pipeline, or tables were copied, and nothing says how far the target is",
            do="cdcflow resync --all",
        )
    roster.known_before = True  # what comes next may fail half-way, and its slot is then ours
    return make_log(parts, roster)


def make_log(parts: Parts, roster: Roster) -> Log:
    """Make slot and publication anew, and the checkpoint at their beginning."""
    source, pipeline = parts.source, parts.settings.pipeline
    routes = roster.routes(record.table_id for record in roster.records() if record.state is not TableState.FAILED)
    stamps = source.stamps([route.source.id for route in routes])
    snapshot = source.prepare(routes, parts.stop)
    try:
        moment("slot made")
        checkpoint = Checkpoint(pipeline, str(snapshot.position), dict(source.identity()), roster.epoch)
        parts.store.save(checkpoint)
        moment("position saved")
    except BaseException:
        snapshot.close()
        raise
    log.info("log is kept from here", position=str(snapshot.position), tables=len(routes))
    return Log(checkpoint, snapshot, stamps)


def copy(parts: Parts, roster: Roster, opened: Log, table_ids: list[int]) -> None:
    """Copy the tables while nothing is streamed, until each is whole or failed, and let them join.

    Raises:
        Unavailable: what is finished stays; called again, it goes on there.
        Fenced: another instance has taken over.
    """
    checkpoint = parts.source.parse(opened.checkpoint.position)
    snapshot, stamps = opened.snapshot, opened.stamps
    opened.snapshot = None
    begun = list(table_ids)
    try:
        while table_ids and not parts.stop.is_set():
            if snapshot is None or stamps is None:
                include(parts, roster, table_ids)
                stamps = parts.source.stamps(table_ids)
                snapshot = parts.source.snapshot(parts.stop)
            copied = Round(parts, roster, snapshot, stamps).run(table_ids)
            roster.begun(table_ids)
            for table_id in copied.finished:
                join(parts, roster, table_id, checkpoint)
            table_ids = [table_id for table_id in copied.again if table_id in roster]
            snapshot.close()
            snapshot = None
            if table_ids:
                parts.stop.wait(AGAIN_SECONDS)
                refresh(parts, roster)
                table_ids = [table_id for table_id in table_ids if table_id in roster]
    finally:
        roster.begun(begun)
        if snapshot is not None:
            snapshot.close()


def join(parts: Parts, roster: Roster, table_id: int, checkpoint: Position) -> None:
    """Let a table whose copy is whole into the stream that is opened next."""
    parse = parts.source.parse

    def joined(record: TableRecord) -> TableRecord | None:
        return lifecycle.joining(record, checkpoint, parse) if record.state is TableState.COPYING else None

    roster.change(table_id, joined)


def refresh(parts: Parts, roster: Roster) -> list[Route]:
    """Look at the source's tables again; return the routes of those that the roster does not have.

    Tables that are gone are dropped from it.
    """
    tables = parts.source.tables()
    there = {table.id for table in tables}
    roster.drop([record.table_id for record in roster.records() if record.table_id not in there])
    return roster.refresh(parts.rules.replan(tables).routes)


def include(parts: Parts, roster: Roster, table_ids: Iterable[int]) -> None:
    """Make the log carry what is captured already and these tables. Before their snapshot is taken, always.

    It carries them until `Roster.begun`, whoever else calls this meanwhile: by then their records say it.
    """
    with roster.publishing:
        roster.begin(table_ids)
        parts.source.include(roster.captured())


def choose(
    records: Iterable[TableRecord], names: Iterable[str], renamed: Mapping[TableName, TableName] | None = None
) -> list[TableRecord]:
    """Return the records of the tables with these source names, or with the ones that they have now (`renamed`).

    Raises:
        UsageError: a name that no table of the pipeline has.
    """
    names = list(names)
    by_name = {str(record.source): record for record in records}
    by_name.update((str(name), by_name[str(old)]) for old, name in (renamed or {}).items() if str(old) in by_name)
    unknown = [name for name in names if name not in by_name]
    if unknown:
        close = get_close_matches(unknown[0], by_name, n=1)
        raise UsageError(
            f'no table "{unknown[0]}" in this pipeline',
            why=f"it has {', '.join(sorted(by_name)[:10])}",
            do=f'did you mean "{close[0]}"?' if close else "cdcflow status shows the tables",
        )
    return list({by_name[name].table_id: by_name[name] for name in names}.values())


def uncopied(records: Iterable[TableRecord]) -> list[TableRecord]:
    """Return the tables whose copy is not whole."""
    return [record for record in records if record.state in lifecycle.UNCOPIED]
