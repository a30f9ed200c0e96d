"""Random ALTER TABLE statements from a seed; many are refused by the server, which is its business."""

from __future__ import annotations

from random import Random

TYPES = """
int|int unsigned|tinyint|tinyint(1)|smallint|mediumint unsigned|bigint|bigint unsigned|int(5) zerofill|bool
decimal(8,2)|decimal(10,4)|decimal(8,0)|decimal(12,2) unsigned|numeric(6)|float|double|double(9,3)
char(5)|char(9)|varchar(5)|varchar(20)|varchar(300)|tinytext|text|text(30)|mediumtext|longtext|nchar(4)
varchar(20) charset latin1|varchar(20) charset utf8mb4|varchar(20) character set ascii|char(8) charset utf8
varchar(20) collate utf8mb4_bin|text charset latin1 collate latin1_bin|varchar(9) binary|varchar(9) charset ucs2
binary(4)|binary(6)|varbinary(8)|varbinary(20)|tinyblob|blob|blob(20)|longblob
date|datetime|datetime(3)|datetime(6)|time|time(4)|timestamp null|timestamp(2) null|year
enum('a','b')|enum('a','b','c')|enum('c','b','a')|set('x','y')|set('x','y','z')|set('y','x')|bit(3)|bit(8)
json|point|geometry
""".replace("\n", "|").strip("|")

DEFAULTS = {
    "int": ("5", "-1", "'7'", "0"),
    "bigint": ("5", "9000000000"),
    "tinyint": ("1", "true"),
    "bool": ("false",),
    "smallint": ("3",),
    "decimal": ("1", "1.25", "'2.5'", "-1"),
    "numeric": ("4",),
    "float": ("1.5", "0.1", "1"),
    "double": ("1.5", "2", "1e3"),
    "char": ("'a'", "'b  '", "''", "1"),
    "varchar": ("'a'", "'it''s'", "''", "'b  '", "1.50", "'é'"),
    "binary": ("'ab'", "0x00"),
    "varbinary": ("'ab'", "x'00ff'"),
    "date": ("'2024-02-03'", "'2024-2-3'"),
    "datetime": ("'2024-02-03 04:05:06'", "'2024-02-03'", "current_timestamp"),
    "time": ("'01:02:03'", "'-10:00'"),
    "timestamp": ("'2024-02-03 04:05:06'", "null"),
    "year": ("2024", "'99'"),
    "enum('a": ("'a'", "'b'", "1"),
    "set('x": ("'x'", "'y,x'", "''"),
    "bit": ("b'101'", "1"),
}


KINDS = ("add", "modify", "grow") * 3 + (
    *("drop", "change", "rename", "default", "nodefault", "charset", "convert", "key", "nokey"),
)
# What people do most: a type that holds more.
GROWING = (
    ("tinyint", "smallint", "int", "bigint"),
    ("tinyint unsigned", "int unsigned", "bigint unsigned"),
    ("char(5)", "char(9)", "varchar(9)", "varchar(20)", "varchar(300)", "text", "mediumtext", "longtext"),
    ("varchar(20) charset ascii", "varchar(20) charset latin1", "varchar(30) charset utf8mb4"),
    ("varbinary(8)", "varbinary(20)", "blob", "longblob"),
    ("decimal(8,2)", "decimal(10,2)", "decimal(12,4)"),
    ("datetime", "datetime(3)", "datetime(6)"),
    ("enum('a','b')", "enum('a','b','c')", "enum('c','b','a','d')"),
    ("set('x','y')", "set('x','y','z')"),
    ("point", "geometry"),
)


class Generator:
    """Makes statements for one table whose columns it guesses from what it wrote."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.columns = ["id", "c0", "c1"]
        self.made = 0

    def statement(self, table: str) -> str:
        """Return one ALTER TABLE with up to four clauses."""
        clauses = [self.clause() for _ in range(self.random.choice((1, 1, 1, 2, 2, 3, 4)))]
        if any(clause.startswith("CONVERT") for clause in clauses):  # beside ADD .. TEXT it crashes MySQL 8.0.15
            clauses = [clause for clause in clauses if clause.startswith("CONVERT")]
        return f"ALTER TABLE {self.quoted(table)} " + self.random.choice((", ", ",", " , /* and */ ")).join(clauses)

    def clause(self) -> str:
        """Return one clause."""
        kind = self.random.choice(KINDS)
        column = self.random.choice(self.columns)
        if kind == "add":
            words = self.random.choice(("ADD", "add column"))
            return f"{words} {self.quoted(self.fresh())} {self.definition()}{self.place()}"
        if kind == "drop":
            return f"DROP {self.random.choice(('', 'COLUMN '))}{self.quoted(column)}"
        if kind == "change":
            return f"CHANGE {self.quoted(column)} {self.quoted(self.fresh())} {self.definition()}{self.place()}"
        if kind == "modify":
            return f"MODIFY {self.quoted(column)} {self.definition()}{self.place()}"
        if kind == "rename":
            return f"RENAME COLUMN {self.quoted(column)} TO {self.quoted(self.fresh())}"
        if kind == "grow":
            ladder = self.random.choice(GROWING)
            step = self.random.randrange(len(ladder))
            return f"MODIFY {self.quoted(column)} {ladder[step]}"
        if kind == "default":
            return (
                f"ALTER {self.quoted(column)} SET DEFAULT {self.random.choice(('1', 'NULL', chr(39) + 'a' + chr(39)))}"
            )
        if kind == "nodefault":
            return f"ALTER COLUMN {self.quoted(column)} DROP DEFAULT"
        if kind == "charset":
            return self.random.choice(("DEFAULT CHARSET latin1", "CHARACTER SET = utf8mb4", "COLLATE utf8mb4_bin"))
        if kind == "convert":
            return "CONVERT TO CHARACTER SET " + self.random.choice(
                ("latin1", "utf8mb4", "utf8", "utf8mb4 COLLATE utf8mb4_bin", "ascii")
            )
        if kind == "key":
            return self.random.choice(
                (
                    f"ADD UNIQUE ({self.quoted(column)})",
                    f"ADD UNIQUE INDEX u{self.random.randrange(4)} ({self.quoted(column)}, id)",
                    f"ADD KEY ({self.quoted(column)}(3))",
                    f"ADD PRIMARY KEY (id, {self.quoted(column)})",
                )
            )
        return self.random.choice(("DROP PRIMARY KEY", f"DROP KEY u{self.random.randrange(4)}", f"DROP KEY {column}"))

    def fresh(self) -> str:
        """Return a new name, sometimes one that needs quotes, and remember it as a column's."""
        self.made += 1
        name = f"c{self.made}" + self.random.choice(("", "", "", " x", "`", "é", ",(", "-- "))
        self.columns.append(name.strip())
        self.columns = [*self.columns[-12:], "id"]
        return name.strip()

    def definition(self) -> str:
        """Return a type with attributes."""
        kind = self.random.choice(TYPES.split("|"))
        text = kind
        fitting = [values for word, values in DEFAULTS.items() if kind.startswith(word)]
        null = self.random.choice(("", "", " NULL", " NOT NULL"))
        if kind.startswith("timestamp"):
            null = ""
        default = ""
        if fitting and self.random.random() < 0.5:
            default = f" DEFAULT {self.random.choice(fitting[-1])}"
        comment = self.random.choice(("", "", " COMMENT 'a, (b'", " COMMENT ')'"))
        return text + (null + default if self.random.random() < 0.5 else default + null) + comment

    def place(self) -> str:
        """Return FIRST, AFTER a column, or nothing."""
        return self.random.choice(("", "", "", " FIRST", f" AFTER {self.quoted(self.random.choice(self.columns))}"))

    def quoted(self, name: str) -> str:
        """Return the name in backticks, or as it is where that is allowed."""
        if name.isalnum() and name.isascii() and self.random.random() < 0.5:
            return name.upper() if self.random.random() < 0.1 and name != "t" else name
        return "`" + name.replace("`", "``") + "`"

    def value(self, logical: str, kind: str) -> str:
        """Return SQL of a value for a column of this type."""
        if self.random.random() < 0.2:
            return "NULL"
        pools = {
            "date": ("'2024-02-29'", "'1999-12-31'"),
            "timestamp": ("'2024-02-29 12:34:56.123456'", "'1999-12-31 23:59:59.999999'"),
            "timestamptz": ("'2024-02-29 12:34:56.5'", "'1999-12-31 23:59:59.999'"),
            "interval": ("'-12:34:56.789'", "'100:00:00'"),
            "geometry": ("ST_GeomFromText('POINT(1 2)')",),
            "json": ("'{\"a\": 1}'", "'[1, 2.5, \"x\"]'"),
            "bit": ("b'101'", "b'1'"),
            "set": ("'x,y'", "'x'", "''"),
            "enum": ("'a'", "'b'"),
            "bytes": ("x'00ff41'", "'ab'", "''"),
            "text": ("'a'", "'b  '", "'héé'", "'12'", "''", "'abcdefghi'"),
        }
        if kind.startswith("year"):
            return "2024"
        return self.random.choice(pools.get(logical, ("1", "0", "-3.75", "100", "40000", "3000000000", "0.1")))
