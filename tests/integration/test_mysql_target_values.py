"""Values in their canonical text into MySQL and MariaDB: by copy, by batches as sets and row by row, the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cdcflow.errors import CopyRestart, Fenced, RowRejected
from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.frame import Cell
from cdcflow.model.route import Route
from tests.conftest import MakeMysqlDatabase
from tests.integration.mysql_feed import ID, Fed, V, column, found
from tests.servers.fleet import Fleet


@pytest.fixture(params=["mysql", "mysql without local_infile", "mariadb"])
def fed(request: pytest.FixtureRequest, fleet: Fleet, new_mysql_database: MakeMysqlDatabase) -> Iterator[Fed]:
    engine, _, without = request.param.partition(" ")
    server = fleet.mysql(role="target") if engine == "mysql" else fleet.mariadb("target")
    made = Fed(new_mysql_database(server, "fed"), infile=not without)
    yield made
    made.close()


def _copy_text(rows: list[list[Cell]]) -> bytes:
    def field(cell: Cell) -> bytes:
        if cell is None:
            return b"\\N"
        assert isinstance(cell, bytes)
        pairs = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r"), (b"\f", b"\\f"), (b"\v", b"\\v"))
        for plain, escape in pairs:
            cell = cell.replace(plain, escape)
        return cell

    return b"".join(b"\t".join(map(field, row)) + b"\n" for row in rows)


def _load(fed: Fed, route: Route, rows: list[list[Cell]], number: int = 0, *, merge: bool = False) -> DoneChunk:
    chunk = Chunk(route.source.id, number, "", "")
    loader = fed.target.loader()
    if not fed.infile:
        loader._connected().infile = False
    try:
        return loader.load(
            route, chunk, [_copy_text(rows)], lambda n, size: DoneChunk(chunk, "0/1", "", n, size), merge=merge
        )
    finally:
        loader.close()


# (type at the source, values, the expression that shows them, what it shows)
POSTGRES = [
    ("boolean", [b"t", b"f"], "c+0", ["1", "0"]),
    ("smallint", [b"-32768", b"32767"], "c", ["-32768", "32767"]),
    ("bigint", [b"-9223372036854775808", b"9007199254740993"], "c", ["-9223372036854775808", "9007199254740993"]),
    ("numeric(12,2)", [b"-1234567890.12", b"0.10"], "c", ["-1234567890.12", "0.10"]),
    ("numeric(5,-2)", [b"1234500"], "c", ["1234500"]),
    ("numeric", [b"1.10", b"NaN", b"9" * 70], "c", ["1.10", "NaN", "9" * 70]),
    ("real", [b"0.1", b"1e+20"], "c", ["0.1", "1e20"]),
    ("double precision", [b"0.1", b"1e+300"], "c", ["0.1", "1e300"]),
    ("text", ["ä 🐘 \\ ' \" \n\t\r\v\f".encode(), b"", b" x "], "c", ["ä 🐘 \\ ' \" \n\t\r\v\f", "", " x "]),
    ("character varying(5)", ["🐘🐘🐘🐘🐘".encode()], "c", ["🐘🐘🐘🐘🐘"]),
    ("character(3)", [b"a  ", b"abc"], "c", ["a", "abc"]),
    ("bytea", [b"\\x", b"\\x00090a0d5c27ff"], "hex(c)", ["", "00090A0D5C27FF"]),
    ("date", [b"2024-01-31", b"0001-01-01"], "c", ["2024-01-31", "0001-01-01"]),
    ("time without time zone", [b"12:34:56.123456", b"24:00:00"], "c", ["12:34:56.123456", "24:00:00.000000"]),
    ("timestamp without time zone", [b"2024-01-31 12:00:00.5"], "c", ["2024-01-31 12:00:00.500000"]),
    ("timestamp with time zone", [b"9999-01-31 12:00:00.5+00"], "c", ["9999-01-31 12:00:00.500000"]),
    ("interval", [b"1 year 2 mons -3 days -04:05:06.7"], "c", ["1 year 2 mons -3 days -04:05:06.7"]),
    ("uuid", [b"6b1de5a0-1b2c-4c3d-9e4f-001122334455"], "c", ["6b1de5a0-1b2c-4c3d-9e4f-001122334455"]),
    ("json", [b'{"b":  1, "a": 2}'], "c", ['{"b":  1, "a": 2}']),
    ("jsonb", ['{"a": "ä\\n"}'.encode(), b"null"], "c", ['{"a": "ä\\n"}', "null"]),
    ("bit(10)", [b"0000000101"], "bin(c)", ["101"]),
    ("bit varying(80)", [b"0101" * 20], "c", ["0101" * 20]),
    ("text[]", [b'{a,"b c",NULL}'], "c", ['{a,"b c",NULL}']),
    ("inet", [b"10.0.0.0/8"], "c", ["10.0.0.0/8"]),
    (
        "geometry",
        [b"0101000020E6100000000000000000F03F0000000000000040", b"0101000000000000000000F03F0000000000000040"],
        "concat(st_srid(c), ' ', hex(c))",
        [
            "4326 E61000000101000000000000000000F03F0000000000000040",
            "0 000000000101000000000000000000F03F0000000000000040",
        ],
    ),
]
MYSQL = [
    ("tinyint", [b"-128"], "c", ["-128"]),
    ("bigint unsigned", [b"18446744073709551615"], "c", ["18446744073709551615"]),
    ("decimal(65,30)", [b"-" + b"9" * 35 + b"." + b"9" * 30], "c", ["-" + "9" * 35 + "." + "9" * 30]),
    ("float", [b"0.1"], "c", ["0.1"]),
    ("year", [b"0", b"1999"], "c", ["0000", "1999"]),
    ("time(1)", [b"-838:59:58.5", b"00:00:00"], "c", ["-838:59:58.5", "00:00:00.0"]),
    ("datetime(6)", [b"2024-01-31 12:00:00.5"], "c", ["2024-01-31 12:00:00.500000"]),
    ("timestamp", [b"2024-01-31 12:00:00+00"], "c", ["2024-01-31 12:00:00"]),
    ("bit(10)", [b"0000000101"], "bin(c)", ["101"]),
    ("enum('a','b c')", [b"b c"], "c", ["b c"]),
    ("set('x','y','z')", [b"x,z", b""], "c", ["x,z", ""]),
    ("binary(4)", [b"\\x61000000"], "hex(c)", ["61000000"]),
    ("varbinary(10)", [b"\\x5c0a"], "hex(c)", ["5C0A"]),
    ("json", [b'{"a": 1}'], "c", ['{"a": 1}']),
    ("point", [b"0101000000000000000000F03F0000000000000040"], "st_astext(c)", ["POINT(1 2)"]),
]


def _each(fed: Fed, kind: str, values: list[bytes], show: str, shown: list[str], engine: str, **more: str) -> None:
    route = fed.made(ID, column("c", kind, **more), engine=engine)
    rows: list[list[Cell]] = [[b"%d" % n, value] for n, value in enumerate([*values, None], 1)]
    query = f"SELECT CAST({show} AS CHAR CHARACTER SET utf8mb4) FROM t ORDER BY id"
    wanted = [(each,) for each in [*shown, None]]
    assert _load(fed, route, rows).rows == len(rows)
    assert found(fed, query) == wanted
    fed.database.execute("DELETE FROM t")
    fed.apply(route, [("I", None, row) for row in rows], large=True)
    assert found(fed, query) == wanted
    fed.apply(route, [("U", None, [row[0], None]) for row in rows], large=True)
    fed.apply(route, [("U", None, row) for row in rows], large=False)
    assert found(fed, query) == wanted
    fed.apply(route, [("D", row, None) for row in rows])
    assert found(fed, query) == []


@pytest.mark.parametrize(("kind", "values", "show", "shown"), POSTGRES, ids=[each[0] for each in POSTGRES])
def test_values_of_postgresql(fed: Fed, kind: str, values: list[bytes], show: str, shown: list[str]) -> None:
    _each(fed, kind, values, show, shown, "postgresql")


@pytest.mark.parametrize(("kind", "values", "show", "shown"), MYSQL, ids=[each[0] for each in MYSQL])
def test_values_of_mysql(fed: Fed, kind: str, values: list[bytes], show: str, shown: list[str]) -> None:
    _each(fed, kind, values, show, shown, "mysql")


@pytest.mark.parametrize(
    ("charset", "collation"),
    [
        ("latin1", "latin1_swedish_ci"), ("utf8mb3", "utf8mb3_bin"), ("utf8mb4", "utf8mb4_0900_as_cs"),
        ("utf8mb4", "utf8mb4_uca1400_ai_ci"), ("ucs2", "ucs2_general_ci"), ("gb18030", "gb18030_chinese_ci"),
    ],
)  # fmt: skip
def test_texts_in_other_character_sets(fed: Fed, charset: str, collation: str) -> None:
    _each(fed, "varchar(20)", ["äé".encode()], "c", ["äé"], "mysql", charset=charset, collation=collation)


def test_a_vector(fed: Fed) -> None:
    _each(fed, "vector(2)", [b"{1,2.5}"], "hex(c)", ["0000803F00002040"], "mysql")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", b"infinity"), ("timestamp with time zone", b"-infinity"), ("date", b"0044-03-15 BC"),
        ("double precision", b"NaN"), ("real", b"Infinity"), ("numeric(5,2)", b"NaN"), ("smallint", b"40000"),
        ("geometry", b"01010000A0E6100000000000000000F03F00000000000000400000000000000840"),
        ("jsonb", b"{"), ("bit(2)", b"111"),
    ],
)  # fmt: skip
def test_a_value_that_mysql_cannot_hold_is_refused_and_named(fed: Fed, kind: str, value: bytes) -> None:
    if kind == "jsonb" and fed.target.identity()["engine"] == "mariadb":
        pytest.skip("a check constraint, which names no column")
    route = fed.made(ID, column("c", kind))
    for large in (True, False):
        with pytest.raises(RowRejected) as caught:
            fed.apply(route, [("I", None, [b"1", None]), ("I", None, [b"2", value])], large=large)
        assert "id=2" in caught.value.at
        assert value.decode() not in caught.value.report()
    assert found(fed, "SELECT * FROM t") == []


def test_a_key_longer_than_an_index_takes_is_refused_with_the_limit(fed: Fed) -> None:
    route = fed.made(column("id", "text", nullable=False), V)
    with pytest.raises(RowRejected) as caught:
        fed.apply(route, [("I", None, [b"x" * 769, b"a"])])
    assert "varchar(768), the longest that an index of 3072 bytes takes" in caught.value.why


def test_a_chunk_is_loaded_once_however_often_it_is_asked_for(fed: Fed) -> None:
    route = fed.made()
    first = _load(fed, route, [[b"1", b"a"], [b"2", b"b"]])
    fed.database.execute("DELETE FROM t WHERE id = 1")  # else the rows themselves would be refused
    fed.database.execute("DELETE FROM t WHERE id = 2")
    assert _load(fed, route, [[b"1", b"a"], [b"2", b"b"]]) == first
    assert found(fed) == []
    assert fed.store.chunks(fed.name, route.source.id) == [first]
    fed.target.clear(route, route)
    assert fed.store.chunks(fed.name, route.source.id) == []


@pytest.mark.parametrize("unique", [False, True])
def test_merged_rows_overwrite_those_that_are_there(fed: Fed, unique: bool) -> None:
    route = fed.made(column("id", "integer", nullable=False), column("v", "character varying(20)"))
    if unique:
        fed.database.execute("ALTER TABLE t ADD UNIQUE KEY (v)")
    _load(fed, route, [[b"1", b"a"], [b"2", b"b"]])
    _load(fed, route, [[b"2", b"c"], [b"3", b"d"]], 1, merge=True)
    assert found(fed) == [(1, "a"), (2, "c"), (3, "d")]
    if unique:
        with pytest.raises(CopyRestart):
            _load(fed, route, [[b"4", b"a"]], 2, merge=True)


def test_a_unique_index_that_comes_between_two_chunks_counts(fed: Fed) -> None:
    route = fed.made(column("id", "integer", nullable=False), column("v", "character varying(20)"))
    loader = fed.target.loader()
    loader._connected().infile = fed.infile

    def load(number: int, row: list[Cell]) -> None:
        chunk = Chunk(route.source.id, number, "", "")
        loader.load(route, chunk, [_copy_text([row])], lambda n, s: DoneChunk(chunk, "0/1", "", n, s), merge=True)

    load(0, [b"1", b"a"])
    fed.database.execute("ALTER TABLE t ADD UNIQUE KEY (v)")
    with pytest.raises(CopyRestart):
        load(1, [b"2", b"a"])
    loader.close()
    assert found(fed) == [(1, "a")]


def test_a_copied_row_that_is_refused_is_named(fed: Fed) -> None:
    route = fed.made()
    fed.database.execute("ALTER TABLE t MODIFY v VARCHAR(3)")
    with pytest.raises(RowRejected) as caught:
        _load(fed, route, [[b"1", b"abc"], [b"2", b"secret"]])
    assert "column v" in caught.value.at
    assert "secret" not in caught.value.report()
    if fed.infile:
        assert "key id=2" in caught.value.at
    with pytest.raises(RowRejected, match="unique"):
        _load(fed, route, [[b"1", b"a"], [b"1", b"b"]])
    assert found(fed) == []


def test_a_loader_of_another_epoch_writes_nothing(fed: Fed) -> None:
    route = fed.made()
    loader = fed.target.loader()
    fed.store.acquire(fed.name, {"host": "here", "process": "2"})
    chunk = Chunk(route.source.id, 0, "", "")
    with pytest.raises(Fenced):
        loader.load(route, chunk, [b"1\ta\n"], lambda n, s: DoneChunk(chunk, "0/1", "", n, s), merge=False)
    assert found(fed) == []


def test_a_source_that_breaks_in_the_middle_of_a_chunk_leaves_nothing(fed: Fed) -> None:
    route = fed.made()

    def blocks() -> Iterator[bytes]:
        yield b"1\ta\n"
        raise ConnectionError("gone")

    loader, chunk = fed.target.loader(), Chunk(route.source.id, 0, "", "")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the source raises
        loader.load(route, chunk, blocks(), lambda n, s: DoneChunk(chunk, "0/1", "", n, s), merge=False)
    assert found(fed) == []
    assert _load(fed, route, [[b"1", b"a"]]).rows == 1


def test_two_loaders_write_one_table_beside_the_applier(fed: Fed) -> None:
    route, other = fed.made(), fed.made(name="o")
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(5):
                first = number * 100_000 + n * 1000
                _load(fed, route, [[b"%d" % row, b"x" * 50] for row in range(first, first + 1000)], number * 10 + n)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for n in range(20):
        fed.apply(other, [("I", None, [b"%d" % row, b"y"]) for row in range(n * 100, n * 100 + 100)], large=n % 2 == 0)
    for thread in threads:
        thread.join()
    assert not failures
    assert found(fed, "SELECT count(*) FROM t") == [(10_000,)]
    assert found(fed, "SELECT count(*) FROM o") == [(2000,)]


def test_a_large_batch_of_every_operation(fed: Fed) -> None:
    route = fed.made()
    count = 100_000 if fed.infile else 10_000
    fed.apply(route, [("I", None, [b"%d" % n, b"old %d" % n]) for n in range(count)], large=True)
    changes = [("U", None, [b"%d" % n, b"new %d" % n]) for n in range(0, count, 2)]
    changes += [("D", [b"%d" % n, None], None) for n in range(1, count, 4)]
    fed.apply(route, changes, large=True)
    assert found(fed, "SELECT count(*), sum(v LIKE 'new%%') FROM t") == [(count // 4 * 3, count // 2)]
