"""What the rules make of tables: routes, what is left out, and what cannot be right."""

from __future__ import annotations

import json

import pytest

from cdcflow.errors import ConfigError
from cdcflow.flow import shapes
from cdcflow.model.check import Level
from cdcflow.model.route import Mode, OnDelete, OnTruncate, SchemaChanges, ZeroDates
from cdcflow.model.schema import Column, Logical, NativeType, ReplicaIdentity, Table, TableName
from cdcflow.rules import Plan, Rules, parse

TEXT = NativeType("text", 25)


def table(name: str, columns: str = "id a b", key: str = "id", **more) -> Table:
    """Make a table; a column written `c=stored` is generated."""
    schema, _, plain = name.partition(".")
    made = []
    for column in columns.split():
        column, _, generated = column.partition("=")
        made.append(Column(column, TEXT, Logical.TEXT, generated=generated))
    keys = tuple(key.split())
    return Table(TableName(schema, plain), abs(hash(name)), tuple(made), keys, keys, **more)


def rules(*lines: str, head: str = "") -> Rules:
    return parse(head + "tables:\n" + "".join(f"  - {{{line}}}\n" for line in lines))


def refusal(found: Rules, *tables: Table) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        found.plan(tables)
    return caught.value


def targets(plan: Plan) -> dict[str, str]:
    return {str(route.source.name): str(route.target) for route in plan.routes}


def left_out(plan: Plan) -> list[str]:
    return [str(table.name) for table in plan.left_out]


ORDERS, ITEMS, AUDIT = table("public.orders"), table("public.items"), table("public.audit_1")


def test_table_goes_to_its_own_name_with_all_its_columns_and_its_key():
    route = rules('match: "public.*"').route(ORDERS)
    assert route is not None
    assert (str(route.target), route.key, route.whole, route.mode) == ("public.orders", ("id",), True, Mode.MIRROR)
    assert (route.on_delete, route.on_truncate) == (OnDelete.DELETE, OnTruncate.TRUNCATE)
    assert route.schema_changes is SchemaChanges.APPLY


def test_table_that_no_rule_matches_has_no_route():
    assert rules("match: sales.x").route(ORDERS) is None


def test_later_exclude_leaves_out_and_a_still_later_rule_takes_one_in():
    found = rules('match: "*"', 'match: "public.audit_*", exclude: true', "match: public.audit_1, exclude: false")
    plan = found.plan([ORDERS, AUDIT, table("public.audit_2")])
    assert list(targets(plan)) == ["public.orders", "public.audit_1"]
    assert left_out(plan) == ["public.audit_2"]


@pytest.mark.parametrize(
    ("default", "rule", "policy"),
    [
        ("", "", ZeroDates.NULL),
        ("defaults: {zero_dates: fail}\n", "", ZeroDates.FAIL),
        ("defaults: {zero_dates: fail}\n", ", zero_dates: epoch", ZeroDates.EPOCH),
        ("defaults: {zero_dates: fail}\n", ", zero_dates: null", ZeroDates.NULL),
        ("defaults: {zero_dates: fail}\n", ', zero_dates: "null"', ZeroDates.NULL),
        ("defaults: {zero_dates: fail}\n", ", zero_dates: ", ZeroDates.NULL),
        ("defaults: {zero_dates: null}\n", "", ZeroDates.NULL),
    ],
)
def test_what_becomes_of_zero_dates_is_said_for_all_or_for_one_table(default, rule, policy):
    route = rules(f'match: "public.*"{rule}', head=default).route(ORDERS)
    assert route is not None
    assert route.zero_dates is policy


def test_another_policy_for_zero_dates_counts_only_where_a_column_can_hold_one():
    def remembered(engine: str, logical: Logical, policy: str) -> object:
        dated = Table(TableName("shop", "t"), 1, (Column("d", TEXT, logical),), engine=engine)
        route = rules(f'match: "*", zero_dates: {policy}').route(dated)
        assert route is not None
        assert shapes.from_text(shapes.to_text(route)).routed == shapes.routed(route)
        return shapes.routed(route)

    for engine in ("mysql", "mariadb"):
        assert remembered(engine, Logical.DATE, "null") != remembered(engine, Logical.DATE, "epoch")
        assert remembered(engine, Logical.INTERVAL, "null") == remembered(engine, Logical.INTERVAL, "epoch")
    assert remembered("postgresql", Logical.DATE, "null") == remembered("postgresql", Logical.DATE, "epoch")


def test_a_table_s_default_charset_is_on_record_and_may_be_missing_there():
    for collation in ("latin1_swedish_ci", ""):
        route = rules('match: "*"').route(table("shop.t", engine="mariadb", collation=collation))
        assert route is not None
        text = shapes.to_text(route)
        assert ("collation" in json.loads(text)) is bool(collation)
        assert shapes.from_text(text).table.collation == collation


def test_a_database_named_like_a_schema_of_postgresqls_is_routed():
    shop = table("pg_shop.orders", engine="mysql")
    plan = rules('match: "*"').plan([shop, table("sys.x", engine="mysql")])
    assert targets(plan) == {"pg_shop.orders": "pg_shop.orders"}
    error = refusal(rules('match: "pg_shop.*"', "match: sys.x"), shop)
    assert "schema sys is the server's" in error.why


def test_later_rules_override_earlier_ones_key_by_key():
    found = rules(
        'match: "public.*", to: "all.{table}", on_delete: soft, columns: {exclude: [a], rename: {b: c}}',
        "match: public.orders, on_delete: ignore, columns: {exclude: [b]}",
    )
    orders, items = found.route(ORDERS), found.route(ITEMS)
    assert orders is not None
    assert items is not None
    assert (str(orders.target), orders.on_delete) == ("all.orders", OnDelete.IGNORE)
    assert [(column.name, target) for column, target in orders.columns] == [("id", "id"), ("a", "a")]
    assert [(column.name, target) for column, target in items.columns] == [("id", "id"), ("b", "c")]
    assert items.on_delete is OnDelete.SOFT


def test_defaults_hold_where_no_rule_says_otherwise():
    head = "defaults: {on_delete: ignore, on_truncate: ignore, schema_changes: stop}\n"
    found = rules('match: "public.*"', "match: public.items, on_delete: delete", head=head)
    orders, items = found.route(ORDERS), found.route(ITEMS)
    assert orders is not None
    assert items is not None
    assert (orders.on_delete, orders.on_truncate, orders.schema_changes) == ("ignore", "ignore", "stop")
    assert items.on_delete is OnDelete.DELETE


def test_generated_columns_stay_behind():
    route = rules("match: public.t").route(table("public.t", "id a g=stored v=virtual"))
    assert route is not None
    assert [column.name for column, _ in route.columns] == ["id", "a"]
    assert route.whole


def test_append_mode_ignores_deletes_and_truncates():
    route = rules("match: public.orders, mode: append, on_delete: soft").route(ORDERS)
    assert route is not None
    assert (route.mode, route.on_delete, route.on_truncate) == (Mode.APPEND, OnDelete.IGNORE, OnTruncate.IGNORE)


def test_rule_gives_a_key_to_a_table_that_has_none():
    route = rules('match: "public.*", key: [a, b]').route(table("public.log", key=""))
    assert route is not None
    assert route.key == ("a", "b")


def test_key_of_a_pattern_is_for_tables_without_one_only():
    route = rules('match: "public.*", key: [a]').route(ORDERS)
    assert route is not None
    assert route.key == ("id",)


def test_renamed_key_column_is_found_under_its_new_name():
    route = rules("match: public.orders, columns: {rename: {id: order_id}}").route(ORDERS)
    assert route is not None
    assert (route.key, route.key_in_target) == (("id",), ("order_id",))


def test_key_other_than_the_logged_one_is_refused_with_the_remedy():
    error = refusal(rules("match: public.orders, key: [a]"), ORDERS)
    assert error.what == "public.orders is logged by its key (id), not by (a)"
    assert error.at == "rules.yaml:2:28"
    assert "REPLICA IDENTITY FULL" in error.do


def test_key_other_than_the_primary_one_is_used_where_every_old_value_is_logged():
    route = rules("match: public.orders, key: [a]").route(table("public.orders", identity=ReplicaIdentity.FULL))
    assert route is not None
    assert route.key == ("a",)


def test_key_column_that_does_not_exist_is_refused_with_the_nearest_name():
    error = refusal(rules('match: "public.*", key: [sensor, takn_at]'), table("public.log", "sensor taken_at", ""))
    assert error.what == 'public.log has no column "takn_at" (key)'
    assert error.do == 'did you mean "taken_at"?'
    assert error.at == "rules.yaml:2:25"


def test_key_column_like_no_other_lists_the_columns():
    error = refusal(rules("match: public.log, key: [zzz]"), table("public.log", "a b", ""))
    assert error.do == "its columns: a, b"


@pytest.mark.parametrize("line", ["columns: {exclude: [id]}", "key: [a], columns: {exclude: [a]}"])
def test_excluded_key_column_is_refused(line):
    found = table("public.log", key="" if "key" in line else "id")
    error = refusal(rules(f"match: public.log, {line}"), found)
    assert error.what == f'public.log: key column "{"a" if "key" in line else "id"}" is excluded'
    assert error.why == "without its key a row cannot be found again in the target"


def test_generated_key_column_is_refused():
    error = refusal(rules('match: "public.*"'), table("public.t", "id=stored a"))
    assert error.what == 'public.t: key column "id" is generated, and the log does not hold generated columns'


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("{exclude: [bb]}", 'public.orders has no column "bb" (columns.exclude)'),
        ("{rename: {bb: c}}", 'public.orders has no column "bb" (columns.rename)'),
        ("{rename: {a: b}}", 'public.orders: columns "a" and "b" both go to "b"'),
        ("{rename: {a: x, b: x}}", 'public.orders: columns "a" and "b" both go to "x"'),
    ],
)
def test_columns_that_are_missing_or_collide_are_refused(columns, said):
    error = refusal(rules(f"match: public.orders, columns: {columns}"), ORDERS)
    assert error.what == said
    assert error.at.startswith("rules.yaml:2:")


def test_columns_may_swap_their_names():
    route = rules("match: public.orders, columns: {rename: {a: b, b: a}}").route(ORDERS)
    assert route is not None
    assert [target for _, target in route.columns] == ["id", "b", "a"]


def test_rule_that_leaves_no_column_is_refused():
    error = refusal(rules("match: public.t, columns: {exclude: [a]}"), table("public.t", "a", ""))
    assert error.what == "public.t: no column is left"


def test_soft_delete_column_of_the_source_is_refused():
    error = refusal(rules("match: public.t, on_delete: soft"), table("public.t", "id cdcflow_deleted_at"))
    assert "public.t has a column cdcflow_deleted_at already" in error.what


def test_column_that_some_table_of_a_pattern_has_is_no_matter():
    plan = rules('match: "public.*", columns: {exclude: [note]}').plan([ORDERS, table("public.items", "id note")])
    assert plan.findings == ()


def test_column_that_no_table_of_a_pattern_has_is_a_warning():
    plan = rules('match: "public.*", columns: {exclude: [nte], rename: {x: y}}').plan([ORDERS, ITEMS])
    assert [(found.level, found.name) for found in plan.findings] == [(Level.WARNING, "rules.columns")] * 2
    assert plan.findings[0].found == 'no matched table has a column "nte"'


def test_rule_that_matches_nothing_is_refused_with_its_line_and_the_nearest_table():
    error = refusal(rules('match: "*"', "match: public.ordrs"), ORDERS, ITEMS)
    assert error.report() == (
        'error: rule matches no table: "public.ordrs"\n'
        "  at:   rules.yaml:3:6\n"
        "  why:  the source shows 2 tables to this user\n"
        '  do:   did you mean "public.orders"?'
    )
    assert error.exit_code == 2


def test_table_name_in_other_case_is_offered():
    assert refusal(rules("match: public.Orders"), ORDERS).do == 'did you mean "public.orders"?'


def test_rule_over_a_reserved_schema_is_told_so():
    error = refusal(rules('match: "cdcflow.*"'), ORDERS, table("cdcflow.checkpoints"))
    assert error.why == "schema cdcflow is the server's or cdcflow's own and is never replicated"


def test_source_without_tables_is_told_so():
    assert refusal(rules('match: "*"')).why == "the source shows no table to this user"


def test_exclude_that_matches_nothing_is_no_error():
    assert targets(rules('match: "*"', 'match: "tmp.*", exclude: true').plan([ORDERS])) == {
        "public.orders": "public.orders"
    }


def test_rules_that_leave_nothing_are_refused():
    error = refusal(rules('match: "*"', 'match: "public.*", exclude: true'), ORDERS)
    assert error.what == "the rules leave no table to replicate"


def test_two_tables_with_one_target_are_refused_by_name():
    error = refusal(rules('match: "*"', "match: public.items, to: public.orders"), ORDERS, ITEMS)
    assert error.what == "public.orders and public.items both go to public.orders"
    assert error.at == "rules.yaml:3:27"
    assert error.why == "rows of one would overwrite rows of the other"


def test_all_problems_of_all_tables_are_reported_at_once():
    found = rules("match: public.orders, key: [x]", "match: public.items, columns: {exclude: [y]}")
    report = refusal(found, ORDERS, ITEMS).report()
    assert 'public.items has no column "y"' in report
    assert "and 1 more:" in report


def test_dropped_table_is_a_warning_while_a_pipeline_runs():
    plan = rules("match: public.orders", "match: public.items").replan([ORDERS])
    assert [(found.level, found.found) for found in plan.findings] == [
        (Level.WARNING, 'no table matches "public.items"')
    ]


def test_tables_left_out_are_listed_with_the_reason():
    plan = rules('match: "public.*"', 'match: "public.audit_*", exclude: true').plan([ORDERS, AUDIT, table("x.y")])
    assert left_out(plan) == ["public.audit_1", "x.y"]
    assert [(found.name, found.subject, found.found) for found in plan.findings] == [
        ("table.left_out", "public.audit_1", "excluded at rules.yaml:3:31"),
        ("table.left_out", "x.y", "no rule matches it"),
    ]


ROOT = table("public.m", partitioned=True)
LEAVES = [table(f"public.m_{year}", partition_of=ROOT.name) for year in (2024, 2025)]


def test_partitions_are_captured_through_a_routed_root():
    plan = rules('match: "public.*"', "match: public.m_2024, to: x.y").plan([LEAVES[0], ROOT, LEAVES[1]])
    assert targets(plan) == {"public.m": "public.m"}
    assert left_out(plan) == ["public.m_2024", "public.m_2025"]
    assert [(found.name, found.subject, found.found) for found in plan.findings] == [
        ("table.partitions", "public.m", "2 partitions captured through it")
    ]


@pytest.mark.parametrize("lines", [['match: "public.*"', "match: public.m, exclude: true"], ['match: "public.m_*"']])
def test_partitions_are_routed_by_themselves_where_the_root_is_not(lines):
    plan = rules(*lines).plan([ROOT, *LEAVES])
    assert targets(plan) == {"public.m_2024": "public.m_2024", "public.m_2025": "public.m_2025"}


def test_partitions_and_root_never_collide_on_one_target():
    plan = rules('match: "public.m*", to: x.all').plan([ROOT, *LEAVES])
    assert targets(plan) == {"public.m": "x.all"}


def test_partitions_of_a_left_out_root_may_not_share_a_target():
    error = refusal(rules('match: "public.m_*", to: x.all'), ROOT, *LEAVES)
    assert error.what == "public.m_2024 and public.m_2025 both go to x.all"
