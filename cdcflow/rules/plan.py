"""The rules over all tables of a source: what goes where, what is left out and why, and what cannot be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from cdcflow.errors import ConfigError
from cdcflow.model.check import Finding, Level
from cdcflow.model.route import Route
from cdcflow.model.schema import Table, TableName
from cdcflow.rules.document import Document, Place, Steps
from cdcflow.rules.file import Defaults, RulesFile
from cdcflow.rules.name import reserved
from cdcflow.rules.problem import Problem, nearest, refuse, translate
from cdcflow.rules.resolve import Resolution, Rule, resolve, route


@dataclass(frozen=True, slots=True)
class Plan:
    """What the rules make of a source's tables.

    left_out: tables that are not replicated. findings: a line for each of them, and for names in the rules that
    no table has.
    """

    routes: tuple[Route, ...]
    left_out: tuple[Table, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """The sync rules, read and checked as far as possible without a source."""

    defaults: Defaults
    rules: tuple[Rule, ...]
    document: Document = field(repr=False)

    @classmethod
    def of(cls, document: Document, value: object, steps: Steps = ()) -> Rules:
        """Check `value`, which stands at `steps` in a document, and make the rules of it.

        Raises:
            ConfigError: every problem with its place.
        """
        try:
            model = RulesFile.model_validate(value)
        except ValidationError as error:
            problems = translate(error, document, RulesFile, steps)
        else:
            rules = (Rule.of(rule, document, (*steps, "tables", n)) for n, rule in enumerate(model.tables))
            return cls(model.defaults, tuple(rules), document)
        raise refuse(problems)

    def route(self, table: Table) -> Route | None:
        """Return one table's route in its present shape; None when the rules leave it out.

        Raises:
            ConfigError: a column that the rules name is missing, a key column is excluded, two columns collide.
        """
        found = resolve(table, self.rules)
        made = route(found, self.defaults)
        if found.problems:
            raise refuse(found.problems)
        return made

    def route_of_past(self, table: Table) -> Route | None:
        """Return the route of a shape that the table had once; None also where the rules do not fit it."""
        return route(resolve(table, self.rules, past=True), self.defaults)

    def plan(self, tables: Sequence[Table]) -> Plan:
        """Route all tables of a source, before a pipeline starts.

        A partitioned table and its partitions are never both routed: with the root go all its rows.

        Raises:
            ConfigError: as `route`; a rule that matches no table; two tables with one target; no table left.
        """
        plan, unmatched = self._plan(tables)
        if unmatched:
            raise refuse([_unmatched(rule, tables) for rule in unmatched])
        if not plan.routes:
            place = self.rules[-1].place("match")
            raise ConfigError("the rules leave no table to replicate", at=str(place), do="remove an `exclude: true`")
        return plan

    def replan(self, tables: Sequence[Table]) -> Plan:
        """As `plan`, while a pipeline runs: a rule whose last table was dropped is a warning, not an error."""
        plan, unmatched = self._plan(tables)
        warnings = (
            Finding(Level.WARNING, "rules.match", str(rule.place("match")), f'no table matches "{rule.pattern.text}"')
            for rule in unmatched
        )
        return Plan(plan.routes, plan.left_out, (*plan.findings, *warnings))

    def _plan(self, tables: Sequence[Table]) -> tuple[Plan, list[Rule]]:
        found = [resolve(table, self.rules) for table in tables]
        routed = {item.table.name: made for item in found if (made := route(item, self.defaults))}
        # A root with a problem counts as routed: its leaves would only repeat the problem.
        whole = {item.table.name for item in found if item.table.partitioned and item.matched and not item.excluded}
        through_root = {item.table.name for item in found if item.table.partition_of in whole}
        routes = tuple(made for name, made in routed.items() if name not in through_root)
        problems = [problem for item in found if item.table.name not in through_root for problem in item.problems]
        problems += _collisions(routes, {item.table.name: item for item in found})
        if problems:
            raise refuse(problems)
        names = {made.source.name for made in routes}
        left_out = tuple(table for table in tables if table.name not in names)
        matched = {id(rule) for item in found for rule in item.matched}
        unmatched = [rule for rule in self.rules if id(rule) not in matched and not rule.keys.get("exclude", False)]
        return Plan(routes, left_out, tuple(_findings(found, through_root))), unmatched


def _collisions(routes: Sequence[Route], found: dict[TableName, Resolution]) -> list[Problem]:
    by_target: dict[TableName, list[TableName]] = {}
    for made in routes:
        by_target.setdefault(made.target, []).append(made.source.name)
    problems = []
    for target, sources in by_target.items():
        if len(sources) > 1:
            last = found[max(sources, key=lambda name: _to_place(found[name]))]
            problems.append(
                Problem(
                    _to_place(last),
                    f"{' and '.join(map(str, sources))} both go to {target}",
                    "rows of one would overwrite rows of the other",
                    'give one of them another "to", or exclude it',
                )
            )
    return problems


def _to_place(found: Resolution) -> Place:
    said = found.said.get("to")
    return said.rule.place("to") if said is not None else found.matched[-1].place("match")


def _unmatched(rule: Rule, tables: Sequence[Table]) -> Problem:
    text = rule.pattern.text
    names = [str(table.name) for table in tables if not reserved(table.name.schema, table.engine)]
    why = f"the source shows {len(names)} tables to this user" if names else "the source shows no table to this user"
    schema = text.split(".")[0].strip('"')
    if reserved(schema, tables[0].engine if tables else "postgresql"):
        why = f"schema {schema} is the server's or cdcflow's own and is never replicated"
    close = nearest(text.replace('"', ""), names)
    do = f'did you mean "{close}"?' if close else "correct the pattern, or remove the rule"
    if not names:
        do = "GRANT SELECT on the tables to the user, or correct the source's URL"
    return Problem(rule.place("match"), f'rule matches no table: "{text}"', why, do)


def _findings(found: Sequence[Resolution], through_root: set[TableName]) -> list[Finding]:
    findings = []
    partitions = Counter(item.table.partition_of for item in found if item.table.name in through_root)
    for root, count in partitions.items():
        said = f"{count} partition{'s' if count > 1 else ''} captured through it"
        findings.append(Finding(Level.NOTE, "table.partitions", str(root), said))
    for item in found:
        name = str(item.table.name)
        if item.table.name in through_root or reserved(item.table.name.schema, item.table.engine):
            continue
        if not item.matched:
            findings.append(Finding(Level.NOTE, "table.left_out", name, "no rule matches it"))
        elif rule := item.excluded:
            findings.append(Finding(Level.NOTE, "table.left_out", name, f"excluded at {rule.place('exclude')}"))
    return findings + _missing_columns(found)


def _missing_columns(found: Sequence[Resolution]) -> list[Finding]:
    """Find columns that a pattern's rule names and none of its tables has: probably a typo."""
    asked: Counter[tuple[Place, str]] = Counter()
    missing: Counter[tuple[Place, str]] = Counter()
    for item in found:
        if item.excluded:
            continue
        missing.update(item.missing)
        for key in ("columns.exclude", "columns.rename"):
            if key in item.said:
                said = item.said[key]
                asked.update((said.rule.place(key), name) for name in said.value)
    return [
        Finding(
            Level.WARNING,
            "rules.columns",
            str(place),
            f'no matched table has a column "{name}"',
            "correct or remove it",
        )
        for (place, name), count in missing.items()
        if count == asked[place, name]
    ]
