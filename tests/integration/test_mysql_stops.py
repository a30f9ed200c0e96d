# ruff: noqa: E501 - one statement a line
"""What stops a run out of MySQL or MariaDB says so precisely, and what the rules ask for is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.mysql_pairs import Pair, pair
from tests.servers.fleet import Fleet
from tests.servers.mysql_session import connect_to, rows
from tests.servers.waiting import until


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path, fleet: Fleet) -> Iterator[Pair]:
    with pair(tmp_path, fleet, request.param) as found:
        yield found


TO_POSTGRES = pytest.mark.parametrize("made", ["mysql-postgres", "mariadb-postgres"], indirect=True)


@TO_POSTGRES
def test_text_with_u0000_is_refused_by_table_and_key_and_nothing_is_skipped(made: Pair) -> None:
    made.source.execute(
        "CREATE TABLE n (id int PRIMARY KEY, v varchar(20)); INSERT INTO n VALUES (1, 'a');"
        "CREATE TABLE other (id int PRIMARY KEY)"
    )
    made.run()
    made.source.execute("INSERT INTO n VALUES (2, 'b'); INSERT INTO n VALUES (3, concat('secret', char(0), 'x'))")
    made.source.execute("INSERT INTO other VALUES (1); INSERT INTO n VALUES (4, 'd')")
    said = made.run(exit_code=5)
    assert f"{made.schema}.n" in said
    assert 'key "id"=3' in said or "key id=3" in said
    assert "secret" not in said
    assert {row[0] for row in made.there("n")} <= {1, 2}
    assert made.there("other") == []
    made.run(exit_code=5)  # it stays so
    # Nor is it passed over in a copy. Mended, it goes over.
    said = made.commands.call("resync", f"{made.schema}.n", exit_code=5).stderr
    assert "key id=3, column v" in said
    made.run(exit_code=None)
    assert made.there("other") == [(1,)]
    made.source.execute("UPDATE n SET v = 'mended' WHERE id = 3")
    made.commands.call("resync", f"{made.schema}.n", exit_code=0)
    made.run()
    assert made.there("n", "id, v") == [(1, "a"), (2, "b"), (3, "mended"), (4, "d")]


@pytest.mark.parametrize(
    ("made", "engine"), [("mysql-postgres", "InnoDB"), ("mariadb-postgres", "MyISAM")], indirect=["made"]
)
def test_a_change_that_the_log_holds_as_text_stops_with_table_and_position(made: Pair, engine: str) -> None:
    made.source.execute(
        f"CREATE TABLE s (id int PRIMARY KEY, v int) ENGINE = {engine}; INSERT INTO s VALUES (1, 1);"
        "CREATE TABLE ok (id int PRIMARY KEY)"
    )
    made.run()
    writer = made.source.connect()
    with writer:
        rows(writer, "INSERT INTO ok VALUES (1)")
        rows(writer, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; SET SESSION binlog_format = 'STATEMENT'")
        rows(writer, "UPDATE s SET v = v + 1")
        rows(writer, "SET SESSION binlog_format = 'ROW'; INSERT INTO ok VALUES (2)")
    said = made.run(exit_code=5)
    assert f"table {made.schema}.s" in said
    assert "behind position binlog." in said
    assert "UPDATE" in said
    assert made.there("ok") == [(1,)]
    assert made.there("s", "v") == [(1,)]
    made.run(exit_code=5)  # it stays so


@pytest.mark.parametrize("made", ["mysql-postgres"], indirect=True)
def test_a_part_of_a_document_without_the_whole_stops_with_table_and_column(made: Pair) -> None:
    made.source.execute('CREATE TABLE j (id int PRIMARY KEY, d json); INSERT INTO j VALUES (1, \'{"a": "long text"}\')')
    made.run()
    made.source.execute(
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON', binlog_row_image = 'MINIMAL';"
        "UPDATE j SET d = json_set(d, '$.a', 'b')"
    )
    said = made.run(exit_code=5)
    assert f"column d of table {made.schema}.j" in said
    assert f"cdcflow resync {made.schema}.j" in said


@pytest.mark.parametrize("made", ["mysql-postgres", "mariadb-mysql"], indirect=True)
def test_rules_rename_leave_out_and_send_elsewhere(made: Pair) -> None:
    db = made.schema
    made.source.execute(
        "CREATE TABLE cols (id int PRIMARY KEY, a int, b int, secret text); INSERT INTO cols VALUES (1, 1, 1, 's');"
        "CREATE TABLE moved (id int PRIMARY KEY, v int); INSERT INTO moved VALUES (1, 1);"
        "CREATE TABLE soft (id int PRIMARY KEY, v int); INSERT INTO soft VALUES (1, 1), (2, 2);"
        "CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept VALUES (1, 1), (2, 2);"
        "CREATE TABLE fixed (id int PRIMARY KEY, v int); INSERT INTO fixed VALUES (1, 1);"
        "CREATE TABLE out_ (id int PRIMARY KEY)"
    )
    made.folder.write_rules(
        f"{db}.*",
        {"match": f"{db}.cols", "columns": {"rename": {"a": "alpha"}, "exclude": ["secret"]}},
        {"match": f"{db}.moved", "to": "{schema}.pre_{table}"},
        {"match": f"{db}.soft", "on_delete": "soft"},
        {"match": f"{db}.kept", "on_delete": "ignore", "on_truncate": "ignore"},
        {"match": f"{db}.fixed", "schema_changes": "ignore"},
        {"match": f"{db}.out_", "exclude": True},
    )
    made.run()
    made.source.execute(
        "UPDATE cols SET a = 2, secret = 't'; ALTER TABLE cols ADD COLUMN c int, RENAME COLUMN b TO bb;"
        "INSERT INTO cols VALUES (2, 3, 4, 'u', 5);"
        "UPDATE moved SET v = 2; ALTER TABLE moved ADD COLUMN w int; INSERT INTO moved VALUES (2, 3, 4);"
        "DELETE FROM soft WHERE id = 1; UPDATE soft SET v = 9 WHERE id = 2;"
        "DELETE FROM kept WHERE id = 1; TRUNCATE kept; INSERT INTO kept VALUES (3, 3);"
        "ALTER TABLE fixed ADD COLUMN w int; INSERT INTO fixed VALUES (2, 2, 2); INSERT INTO out_ VALUES (1)"
    )
    made.run()
    assert made.there("cols", "id, alpha, bb, c") == [(1, 2, 1, None), (2, 3, 4, 5)]
    assert made.there("pre_moved") == [(1, 2, None), (2, 3, 4)]
    assert made.there("soft", "id, v, cdcflow_deleted_at IS NULL") == [(1, 1, False), (2, 9, True)]
    assert made.there("kept") == [(1, 1), (2, 2), (3, 3)]
    assert made.there("fixed") == [(1, 1), (2, 2)]
    with pytest.raises(Exception, match="out_"):
        made.there("out_")


@pytest.mark.parametrize("made", ["mysql-postgres"], indirect=True)
def test_a_changed_shape_stops_where_the_rules_say_so(made: Pair) -> None:
    made.source.execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
    made.folder.write_rules({"match": f"{made.schema}.*", "schema_changes": "stop"})
    made.run()
    made.source.execute("INSERT INTO t VALUES (2, 2); ALTER TABLE t ADD COLUMN w int; INSERT INTO t VALUES (3, 3, 3)")
    said = made.run(exit_code=5)
    assert f"{made.schema}.t" in said
    assert made.there("t") == [(1, 1), (2, 2)]
    made.folder.write_rules(f"{made.schema}.*")
    made.run()
    assert made.there("t") == [(1, 1, None), (2, 2, None), (3, 3, 3)]


@TO_POSTGRES
@pytest.mark.parametrize("policy", ["null", "epoch", "fail"])
def test_dates_that_no_calendar_has(made: Pair, policy: str) -> None:
    made.source.execute("CREATE TABLE z (id int PRIMARY KEY, d date NOT NULL, t datetime NOT NULL, s timestamp NULL)")
    made.source.execute("CREATE TABLE ok (id int PRIMARY KEY, d date)")
    made.folder.write_rules({"match": f"{made.schema}.*", "zero_dates": policy})
    values = (
        "(1, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00'), (2, '2024-00-10', '2024-01-00 01:02:03', NULL),"
        " (3, '2024-02-28', '2024-02-28 01:02:03', '2024-02-28 01:02:03')"
    )
    insert = f"SET SESSION sql_mode = ''; INSERT INTO z VALUES {values}"
    if policy == "fail":
        made.run()
        made.source.execute(insert)
        said = made.run(exit_code=5)
        assert f"{made.schema}.z" in said
        assert "column d" in said
        assert made.there("z") == []
        return
    made.source.execute(insert)
    made.run()
    made.source.execute(f"SET SESSION sql_mode = ''; UPDATE z SET id = id + 10; INSERT INTO z VALUES {values}")
    made.run()
    nothing = {"null": (None, None, None), "epoch": ("1970-01-01", "1970-01-01 00:00:00", "1970-01-01 00:00:00+00")}[
        policy
    ]
    real = ("2024-02-28", "2024-02-28 01:02:03", "2024-02-28 01:02:03+00")
    first, second = (1, *nothing), (2, *nothing[:2], None)
    want = [first, second, (3, *real), (11, *first[1:]), (12, *second[1:]), (13, *real)]
    assert made.there("z", "id, d::text, t::text, s::text") == want


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_databases_are_made_and_dropped_and_their_names_need_quotes(engine: str, tmp_path: Path, fleet: Fleet) -> None:
    with pair(tmp_path, fleet, f"{engine}-postgres") as made:
        server = made.source.server
        odd = f'o.d`d "%s" é {made.schema}'
        sql = odd.replace("`", "``")
        literal = odd.replace('"', '""')
        made.folder.through(source=server.url())
        made.folder.write_rules(f"{made.schema}.*", f'"{literal}".*', f"*{made.schema}.*")
        with connect_to(server.url()) as root:
            rows(root, f"CREATE DATABASE `{sql}`; CREATE TABLE `{sql}`.`t.t %` (id int PRIMARY KEY, v int)")
            rows(root, f"INSERT INTO `{sql}`.`t.t %` VALUES (1, 1)")
            rows(
                root,
                f"CREATE TABLE `{made.schema}`.plain (id int PRIMARY KEY); INSERT INTO `{made.schema}`.plain VALUES (1)",
            )
            try:
                made.run()
                rows(root, f"UPDATE `{sql}`.`t.t %` SET v = 2; ALTER TABLE `{sql}`.`t.t %` ADD COLUMN w int")
                rows(root, f"USE `{sql}`; INSERT INTO `t.t %` VALUES (2, 2, 2); CREATE TABLE more LIKE `t.t %`")
                rows(root, "INSERT INTO more VALUES (5, 5, 5)")
                rows(
                    root,
                    f"CREATE DATABASE later_{made.schema}; CREATE TABLE later_{made.schema}.t (id int PRIMARY KEY)",
                )
                rows(root, f"INSERT INTO later_{made.schema}.t VALUES (1)")
                made.run()
                shown = f'"{literal}"'
                assert made.target.query(f'SELECT * FROM {shown}."t.t %" ORDER BY 1') == [(1, 2, None), (2, 2, 2)]
                assert made.target.query(f"SELECT * FROM {shown}.more") == [(5, 5, 5)]
                assert made.target.query(f"SELECT * FROM later_{made.schema}.t") == [(1,)]
                rows(root, f"DROP DATABASE later_{made.schema}; INSERT INTO `{made.schema}`.plain VALUES (2)")
                made.run(exit_code=None)
                made.run(exit_code=None)
                assert made.there("plain") == [(1,), (2,)]
            finally:
                rows(root, f"USE mysql; DROP DATABASE IF EXISTS `{sql}`; DROP DATABASE IF EXISTS later_{made.schema}")


BEHIND = (
    "ALTER TABLE t ADD COLUMN a int FIRST", "INSERT INTO t VALUES (1, {n}, 'x')",
    "ALTER TABLE t MODIFY v varchar(40) CHARACTER SET latin1 NOT NULL", "INSERT INTO t VALUES (2, {n}, 'é')",
    "ALTER TABLE t ADD COLUMN e enum('p','q') DEFAULT 'q', ADD COLUMN u int unsigned", "INSERT INTO t VALUES (3, {n}, 'ü', 'p', 4294967295)",
    "ALTER TABLE t MODIFY e enum('q','r','p'), MODIFY u bigint", "INSERT INTO t VALUES (4, {n}, 'y', 'r', -5)",
    "ALTER TABLE t RENAME COLUMN a TO aa", "UPDATE t SET aa = 50 WHERE aa = 1", "ALTER TABLE t DROP COLUMN aa",
    "INSERT INTO t VALUES ({n}, 'z', 'q', 7)", "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4",
    "INSERT INTO t VALUES ({n}, '日本', 'q', 8)", "ALTER TABLE t ADD COLUMN m decimal(10,2) NOT NULL DEFAULT 1.5 AFTER id",
    "INSERT INTO t (id, v) VALUES ({n}, 'default')", "DELETE FROM t WHERE e = 'r'",
    "ALTER TABLE t MODIFY m decimal(20,4), MODIFY v text, MODIFY id bigint", "UPDATE t SET m = m * 3",
    "ALTER TABLE t CHANGE m money decimal(20,4) FIRST, DROP COLUMN u", "INSERT INTO t VALUES (9.99, {n}, 'end', 'p')",
)  # fmt: skip


@pytest.mark.parametrize("metadata", ["FULL", "MINIMAL"])
@pytest.mark.parametrize("engines", ["mysql-postgres", "mariadb-postgres"])
def test_days_behind_each_row_is_read_with_the_columns_of_its_own_time(
    engines: str, metadata: str, tmp_path: Path, fleet: Fleet
) -> None:
    with pair(tmp_path, fleet, engines) as made:
        before = made.source.value("SELECT @@global.binlog_row_metadata")
        made.source.execute(f"SET GLOBAL binlog_row_metadata = '{metadata}'")
        try:
            made.source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(20) CHARACTER SET latin1)")
            made.source.execute("INSERT INTO t VALUES (1, 'copied é')")
            made.run()
            for number, statement in enumerate(BEHIND, 11):
                made.source.execute(statement.replace("{n}", str(number)))
                if number % 6 == 0:
                    made.source.execute("FLUSH BINARY LOGS")
            running = made.start()
            until(
                lambda: made.there("t", "count(*)") != [(1,)] or running.ended, limit=60, what="some of it is applied"
            )
            running.kill()
            made.run()
            assert "copied again" not in "".join(made.outputs)
            made.target.close()  # its statements are prepared for the columns of before
            here = made.source.query("SELECT id, v, e, money FROM t ORDER BY 1")
            assert made.there("t", "id, v, e, money") == here
            assert len(here) == 8
        finally:
            made.source.execute(f"SET GLOBAL binlog_row_metadata = '{before}'")


# Of what it makes the statement alone does not say all.
DOUBTFUL = "DEFAULT CHARACTER SET utf8mb4, CONVERT TO CHARACTER SET utf8mb4"
# What was written behind it before the reader came to it, by table.
MEANWHILE = {
    "renamed": ("ALTER TABLE renamed CHANGE a b2 varchar(20)",),
    "replaced": ("ALTER TABLE replaced DROP a", "ALTER TABLE replaced ADD b2 varchar(20)"),
    "swapped": ("INSERT INTO swapped VALUES (2, 'a', 'b', 'p', 7)", "ALTER TABLE swapped RENAME COLUMN a TO b, RENAME COLUMN b TO a"),
    "labels": ("INSERT INTO labels VALUES (2, 'a', 'b', 'p', 7)", "ALTER TABLE labels MODIFY e enum('q','p')"),
    "charset": ("INSERT INTO charset VALUES (2, 'é', 'ü', 'p', 7)", "ALTER TABLE charset MODIFY a varchar(20) CHARACTER SET latin1"),
    "keyed": ("INSERT INTO keyed VALUES (2, 'a', 'b', 'p', 5)", "DELETE FROM keyed WHERE id = 2", "ALTER TABLE keyed DROP PRIMARY KEY, ADD PRIMARY KEY (n)"),
}  # fmt: skip


@TO_POSTGRES
def test_what_a_statement_leaves_open_is_not_what_the_catalogue_says_days_later(made: Pair) -> None:
    for name in MEANWHILE:
        made.source.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, a varchar(20), b varchar(20), e enum('p','q'), n int NOT NULL)"
            f" DEFAULT CHARSET utf8mb4; INSERT INTO {name} VALUES (1, 'one é', 'two', 'q', 5)"
        )
    made.run()
    before = made.source.value("SELECT @@global.binlog_row_metadata")
    made.source.execute("SET GLOBAL binlog_row_metadata = 'MINIMAL'")
    try:
        for name, statements in MEANWHILE.items():
            made.source.execute(f"ALTER TABLE {name} {DOUBTFUL}")
            for statement in statements:
                made.source.execute(statement)
        made.run()
        for name in MEANWHILE:
            columns = made.source.value(
                "SELECT group_concat(column_name ORDER BY ordinal_position) FROM information_schema.columns"
                f" WHERE table_schema = '{made.schema}' AND table_name = '{name}'"
            )
            assert made.there(name, str(columns)) == made.source.query(f"SELECT {columns} FROM {name} ORDER BY 1"), name
    finally:
        made.source.execute(f"SET GLOBAL binlog_row_metadata = '{before}'")


@pytest.mark.parametrize("made", ["mariadb-postgres"], indirect=True)
def test_days_behind_new_text_has_the_charset_that_was_its_table_s_default_then(made: Pair) -> None:
    """MariaDB's log has no charsets unless it is told to write them."""
    before = made.source.value("SELECT @@global.binlog_row_metadata")
    made.source.execute(
        "SET GLOBAL binlog_row_metadata = 'NO_LOG'; CREATE TABLE t (id int PRIMARY KEY) DEFAULT CHARSET utf8mb4;"
        "CREATE TABLE u (id int PRIMARY KEY) DEFAULT CHARSET utf8mb4; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)"
    )
    try:
        made.run()
        made.source.execute(
            "ALTER TABLE t ADD COLUMN c varchar(20); INSERT INTO t VALUES (2, 'é'); ALTER TABLE t DEFAULT CHARSET latin1;"
            "ALTER TABLE t ADD COLUMN d text; INSERT INTO t VALUES (3, 'ü', 'ö'); ALTER TABLE t DEFAULT CHARSET cp1251;"
            "ALTER TABLE u DEFAULT CHARSET latin1"  # nothing else is on record of it then
        )
        made.run()
        made.source.execute(
            "ALTER TABLE t ADD COLUMN e enum('ж') AFTER id; INSERT INTO t VALUES (4, 'ж', 'ß', 'à');"
            "ALTER TABLE u ADD COLUMN c varchar(20); INSERT INTO u VALUES (2, 'é');"
            "ALTER TABLE t DEFAULT CHARSET utf8mb4; ALTER TABLE u DEFAULT CHARSET utf8mb4"
        )
        made.run()
        assert made.there("t", "id, e, c, d") == made.source.query("SELECT * FROM t ORDER BY 1")
        assert made.there("u") == [(1, None), (2, "é")]
        assert "copied again" not in "".join(made.outputs)
        # The database's own is on no record.
        made.source.execute(
            "ALTER TABLE u CHARACTER SET = DEFAULT; ALTER TABLE u ADD COLUMN d text; INSERT INTO u VALUES (3, 'ü', 'ö');"
            f"ALTER DATABASE {made.schema} CHARACTER SET latin1"
        )
        made.run()
        assert made.there("u") == [(1, None, None), (2, "é", None), (3, "ü", "ö")]
    finally:
        made.source.execute(f"SET GLOBAL binlog_row_metadata = '{before}'")


@TO_POSTGRES
def test_logs_that_are_flushed_between_and_inside_transactions(made: Pair) -> None:
    made.source.execute("CREATE TABLE f (id int PRIMARY KEY, v int); INSERT INTO f VALUES (0, 0)")
    made.run()
    running = made.start()
    running.until_output("streaming")
    writer, other = made.source.connect(), made.source.connect()
    with writer, other:
        for number in range(1, 6):
            rows(writer, f"BEGIN; INSERT INTO f VALUES ({number}, 0)")
            rows(other, "FLUSH BINARY LOGS")
            rows(writer, f"UPDATE f SET v = v + 1 WHERE id <= {number}; COMMIT")
            rows(other, "FLUSH BINARY LOGS")
        rows(writer, "BEGIN; INSERT INTO f VALUES (99, 9); COMMIT")
    until(lambda: (99, 9) in made.there("f") or running.ended, limit=60, what="the last row is there")
    running.terminate()
    assert running.wait() == 0, running.output()[-4000:]
    made.run()
    assert made.there("f") == made.source.query("SELECT * FROM f ORDER BY 1")
