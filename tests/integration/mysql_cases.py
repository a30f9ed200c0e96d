# ruff: noqa: E501 - one statement a line
"""What happens to tables of MySQL and MariaDB: each case has tables of its own, so that all share one pipeline."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """What one test is about.

    setup: run before the copy. changes: run after it, one after the other, by one session; several statements may be
    in one. tables: compared afterwards. only: an engine that alone can do it.
    """

    setup: str
    changes: tuple[str, ...]
    tables: tuple[str, ...]
    only: str = ""


ROW_IMAGES = ("FULL", "MINIMAL", "NOBLOB", "MINIMAL", "NOBLOB", "FULL")

# fmt: off
CASES: dict[str, Case] = {
    "upserts and replaces": Case(
        "CREATE TABLE up (id int PRIMARY KEY AUTO_INCREMENT, u int UNIQUE, v varchar(20));"
        "INSERT INTO up VALUES (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c'), (4, NULL, 'd')",
        (
            "INSERT INTO up VALUES (1, 10, 'x'), (5, 50, 'e') ON DUPLICATE KEY UPDATE v = concat(v, '+')",
            "INSERT INTO up (u, v) VALUES (20, 'y') ON DUPLICATE KEY UPDATE u = u + 1, v = 'dup'",
            "REPLACE INTO up VALUES (1, 30, 'both')",  # takes the place of rows 1 and 3
            "REPLACE INTO up (u, v) VALUES (50, 'new id'), (NULL, 'null')",
            "INSERT IGNORE INTO up VALUES (1, 99, 'ignored'), (77, 98, 'kept')",
            "BEGIN; REPLACE INTO up VALUES (77, 97, 'in'); INSERT INTO up VALUES (77, 96, 'z')"
            " ON DUPLICATE KEY UPDATE id = 78; REPLACE INTO up VALUES (77, 95, 'again'); COMMIT",
        ),
        ("up",),
    ),
    "transactions over tables": Case(
        "CREATE TABLE ma (id int PRIMARY KEY, v int); CREATE TABLE mb (id int PRIMARY KEY, a int, v int);"
        "INSERT INTO ma VALUES (1, 1), (2, 2), (3, 3); INSERT INTO mb VALUES (1, 1, 0), (2, 1, 0), (3, 3, 0)",
        (
            "UPDATE ma JOIN mb ON mb.a = ma.id SET ma.v = ma.v + 10, mb.v = ma.id",
            "BEGIN; INSERT INTO ma VALUES (4, 4); INSERT INTO mb VALUES (4, 4, 4); UPDATE ma SET v = 5; "
            "DELETE ma, mb FROM ma JOIN mb ON mb.a = ma.id WHERE ma.id = 1; COMMIT",
            "BEGIN; INSERT INTO ma VALUES (9, 9); SAVEPOINT s; INSERT INTO mb VALUES (9, 9, 9); ROLLBACK TO s;"
            "UPDATE ma SET v = 90 WHERE id = 9; COMMIT",
            "BEGIN; DELETE FROM ma; INSERT INTO mb VALUES (99, 9, 9); ROLLBACK",
        ),
        ("ma", "mb"),
    ),
    "keys in swaps and chains": Case(
        "CREATE TABLE kc (id int PRIMARY KEY, v varchar(9)); INSERT INTO kc VALUES (1,'a'),(2,'b'),(3,'c'),(4,'d');"
        "CREATE TABLE kp (a int, b varchar(5), v int, PRIMARY KEY (b, a)); INSERT INTO kp VALUES (1,'x',1),(2,'y',2);"
        "CREATE TABLE ku (id int PRIMARY KEY, u int UNIQUE, w varchar(9) NOT NULL, UNIQUE (w));"
        "INSERT INTO ku VALUES (1,1,'p'),(2,2,'q'),(3,3,'r'),(4,NULL,'s'),(5,NULL,'t')",
        (
            "UPDATE kc SET id = id + 1 ORDER BY id DESC",
            "BEGIN; UPDATE kc SET id = -1 WHERE id = 2; UPDATE kc SET id = 2 WHERE id = 3;"
            "UPDATE kc SET id = 3 WHERE id = -1; COMMIT",
            "UPDATE kc SET id = id - 1 ORDER BY id",
            "BEGIN; DELETE FROM kc WHERE id = 1; INSERT INTO kc VALUES (1, 'new'); UPDATE kc SET id = 100 WHERE id = 1;"
            "INSERT INTO kc VALUES (1, 'newer'); COMMIT",
            "UPDATE kp SET a = 3 - a, b = concat('k', v)",
            "BEGIN; UPDATE kp SET b = 'x'; DELETE FROM kp WHERE a = 1; UPDATE kp SET a = 1; INSERT INTO kp VALUES (1, 'y', 7); COMMIT",
            "UPDATE ku SET u = u + 1 ORDER BY u DESC",
            "BEGIN; UPDATE ku SET w = 'tmp' WHERE id = 1; UPDATE ku SET w = 'p' WHERE id = 2;"
            "UPDATE ku SET w = 'q' WHERE id = 1; COMMIT",
            "BEGIN; UPDATE ku SET u = NULL; UPDATE ku SET u = 6 - id; COMMIT",
            "BEGIN; DELETE FROM ku WHERE id = 3; UPDATE ku SET w = 'r', u = 3 WHERE id = 1;"
            "INSERT INTO ku VALUES (3, 5, 'q'); COMMIT",
            "INSERT INTO ku SELECT 100 + n, 100 + n, concat('w', n) FROM (SELECT id AS n FROM ku) x",
            "UPDATE ku SET u = u + 1, w = concat('v', w) WHERE id >= 100 ORDER BY id DESC",
        ),
        ("kc", "kp", "ku"),
    ),
    "keys without case": Case(
        "CREATE TABLE ci (k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v int);"
        "CREATE TABLE cu (id int PRIMARY KEY, u varchar(20) COLLATE utf8mb4_unicode_ci UNIQUE);"
        "INSERT INTO ci VALUES ('a', 1), ('b', 2), ('é', 3), ('sp', 4); INSERT INTO cu VALUES (1, 'x'), (2, 'y')",
        (
            "UPDATE ci SET k = 'A' WHERE k = 'a'",
            "UPDATE ci SET v = 20 WHERE k = 'B'",
            "UPDATE ci SET k = 'E' WHERE k = 'é'",
            "UPDATE ci SET k = 'sp  ' WHERE k = 'sp'",
            "BEGIN; DELETE FROM ci WHERE k = 'B'; INSERT INTO ci VALUES ('B', 5); UPDATE ci SET k = 'b' WHERE k = 'B';"
            "UPDATE ci SET v = v + 1 WHERE k = 'B'; COMMIT",
            "REPLACE INTO ci VALUES ('a', 7)",
            "INSERT INTO ci VALUES ('A', 8) ON DUPLICATE KEY UPDATE v = 9",
            "BEGIN; UPDATE cu SET u = 'X' WHERE id = 1; DELETE FROM cu WHERE id = 1; INSERT INTO cu VALUES (3, 'x');"
            "UPDATE cu SET u = 'Y' WHERE id = 2; COMMIT",
        ),
        ("ci", "cu"),
    ),
    "invisible columns": Case(
        "CREATE TABLE inv (id int PRIMARY KEY, v int, h int INVISIBLE DEFAULT 5, w int);"
        "INSERT INTO inv VALUES (1, 1, 1); INSERT INTO inv (id, h) VALUES (2, 9)",
        (
            "INSERT INTO inv VALUES (3, 3, 3); UPDATE inv SET h = 7 WHERE id = 1; UPDATE inv SET v = 0 WHERE id = 2",
            "ALTER TABLE inv ADD COLUMN g int INVISIBLE DEFAULT 4; INSERT INTO inv VALUES (4, 4, 4)",
        ),
        ("inv",),
    ),
    "generated invisible primary keys": Case(
        "SET SESSION sql_generate_invisible_primary_key = ON; CREATE TABLE gipk (v varchar(9), n int);"
        "INSERT INTO gipk VALUES ('a', 1), ('a', 1), ('b', NULL)",
        (
            "INSERT INTO gipk VALUES ('c', 3); UPDATE gipk SET n = 5 WHERE v = 'a' LIMIT 1; DELETE FROM gipk WHERE v = 'b'",
            "SET SESSION sql_generate_invisible_primary_key = OFF",
        ),
        ("gipk",), only="mysql",
    ),
    "generated columns": Case(
        "CREATE TABLE gen (id int PRIMARY KEY, g int AS (a * 2) STORED, a int, t varchar(30) AS (concat('<', a, '>'))"
        " VIRTUAL, b int, KEY (t)); INSERT INTO gen (id, a, b) VALUES (1, 1, 1), (2, NULL, 2), (3, 3, 3)",
        (
            "UPDATE gen SET a = a + 10; INSERT INTO gen (id, a) VALUES (4, 4)",
            "ALTER TABLE gen ADD COLUMN g2 int AS (a + b) VIRTUAL; UPDATE gen SET b = 7 WHERE id = 1",
            "ALTER TABLE gen ADD COLUMN g3 int AS (a - 1) STORED AFTER id; INSERT INTO gen (id, a) VALUES (5, 5)",
        ),
        ("gen",),
    ),
    "names that need quotes": Case(
        'CREATE TABLE `od.d ta``b%le "q" é名` (`i d` int PRIMARY KEY, `per%cent` int, `dot.ted` int, `ba``ck` varchar(9),'
        ' `dou"ble` int, `Ünï名` int, `select` int, `%s %(a)s` int);'
        'INSERT INTO `od.d ta``b%le "q" é名` VALUES (1, 1, 1, \'a\', 1, 1, 1, 1), (2, 2, 2, \'b\', 2, 2, 2, 2)',
        (
            'INSERT INTO `od.d ta``b%le "q" é名` VALUES (3, 3, 3, \'%s\', 3, 3, 3, 3);'
            'UPDATE `od.d ta``b%le "q" é名` SET `per%cent` = 9, `Ünï名` = 8, `ba``ck` = \'x\' WHERE `i d` = 1;'
            'DELETE FROM `od.d ta``b%le "q" é名` WHERE `i d` = 2',
            'ALTER TABLE `od.d ta``b%le "q" é名` CHANGE `dot.ted` `do.t``"ted%` int, ADD COLUMN `new col` int;'
            'INSERT INTO `od.d ta``b%le "q" é名` VALUES (4, 4, 4, \'d\', 4, 4, 4, 4, 4)',
        ),
        ('od.d ta`b%le "q" é名',),
    ),
    "compressed transactions": Case(
        "CREATE TABLE z (id int PRIMARY KEY, v text); INSERT INTO z VALUES (1, 'a')",
        (
            "SET SESSION binlog_transaction_compression = ON; BEGIN;"
            "INSERT INTO z SELECT 10 + n, repeat('x', 1000) FROM (WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1"
            " FROM s WHERE n < 500) SELECT n FROM s) x; UPDATE z SET v = 'b' WHERE id = 1; COMMIT",
            "INSERT INTO z VALUES (2, 'c'); ALTER TABLE z ADD COLUMN w int; INSERT INTO z VALUES (3, 'd', 4)",
            "SET SESSION binlog_transaction_compression = OFF; UPDATE z SET v = 'e' WHERE id = 2",
        ),
        ("z",), only="mysql",
    ),
    "compressed events": Case(
        "CREATE TABLE z (id int PRIMARY KEY, v text); INSERT INTO z VALUES (1, 'a')",
        (
            "SET GLOBAL log_bin_compress = ON, log_bin_compress_min_len = 10",
            "INSERT INTO z SELECT 10 + seq, repeat('x', 1000) FROM seq_1_to_500; UPDATE z SET v = 'b' WHERE id = 1;"
            "UPDATE z SET v = repeat('y', 2000) WHERE id BETWEEN 20 AND 30; DELETE FROM z WHERE id BETWEEN 40 AND 50",
            "ALTER TABLE z ADD COLUMN w int; INSERT INTO z VALUES (3, 'd', 4)",
            "SET GLOBAL log_bin_compress = OFF, log_bin_compress_min_len = 256",
        ),
        ("z",), only="mariadb",
    ),
    "row images that change": Case(
        "CREATE TABLE im (id int PRIMARY KEY, u int NOT NULL UNIQUE, n int UNIQUE, v varchar(20) DEFAULT 'dflt', t text, b blob,"
        " d int NOT NULL DEFAULT 7); "
        "CREATE TABLE imu (u int NOT NULL UNIQUE, n int, t text, b blob); CREATE TABLE imk (a int, t text, b blob);"
        + "".join(
            f"INSERT INTO im VALUES ({i}, {i}, {i if i % 2 else 'NULL'}, 'v{i}', repeat('t', 200), x'00ff', {i});"
            f"INSERT INTO imu VALUES ({i}, NULL, 'text', x'01'); INSERT INTO imk VALUES ({i % 3}, 't', NULL);"
            for i in range(1, 13)
        ),
        tuple(
            f"SET SESSION binlog_row_image = '{image}';"
            f"INSERT INTO im (id, u) VALUES ({100 + k}, {1000 + 50 * k}); INSERT INTO im (id, u, t, v) VALUES ({200 + k}, {2000 + 50 * k}, 'x', NULL);"
            f"UPDATE im SET v = 'image {k}' WHERE id = {k + 1}; UPDATE im SET n = NULL, t = NULL WHERE id = {k + 2};"
            f"UPDATE im SET b = x'aa', n = {300 + k} WHERE id = {k + 3}; UPDATE im SET id = id + 400 WHERE id = {k + 1};"
            f"UPDATE im SET u = u + 1 WHERE u > 5 ORDER BY u DESC; UPDATE im SET d = d WHERE id = 12;"
            f"UPDATE imu SET n = {k} WHERE u = {k + 1}; UPDATE imu SET u = u + 50, t = 'moved' WHERE u = {k + 1};"
            f"INSERT INTO imu (u) VALUES ({700 + k}); DELETE FROM imu WHERE u = {12 - k};"
            f"UPDATE imk SET t = 'k{k}' WHERE a = {k % 3} LIMIT 1; DELETE FROM imk WHERE a = {(k + 1) % 3} LIMIT 1;"
            f"INSERT INTO imk (a) VALUES ({k});"
            f"BEGIN; DELETE FROM im WHERE id = {100 + k}; INSERT INTO im (id, u) VALUES ({100 + k}, {8000 + 50 * k});"
            f"UPDATE im SET t = 'after' WHERE id = {100 + k}; UPDATE im SET v = 'after too' WHERE id = {100 + k}; COMMIT"
            for k, image in enumerate(ROW_IMAGES)
        ),
        ("im", "imu", "imk"),
    ),
    "parts of documents": Case(
        "CREATE TABLE pj (id int PRIMARY KEY, d json, e json, v int); INSERT INTO pj VALUES"
        " (1, json_object('a', repeat('x', 200), 'b', json_array(1, 2, 3), 'c', json_object('k', repeat('y', 100))), '[1]', 1),"
        " (2, json_object('a', repeat('x', 200), 'n', 1.5), NULL, 2), (3, json_array(repeat('z', 300), 2, 3), '{}', 3)",
        (
            "SET SESSION binlog_row_value_options = 'PARTIAL_JSON';"
            "UPDATE pj SET d = json_set(d, '$.a', 'short') WHERE id = 1; UPDATE pj SET d = json_remove(d, '$.b[1]') WHERE id = 1;"
            "UPDATE pj SET d = json_replace(d, '$.c.k', 'k2', '$.b[0]', 100), v = 9 WHERE id = 1",
            "BEGIN; UPDATE pj SET d = json_set(d, '$.n', 2.5) WHERE id = 2; UPDATE pj SET d = json_set(d, '$.n', true), v = 5 WHERE id = 2;"
            "UPDATE pj SET d = json_set(d, '$[1]', 'two') WHERE id = 3; UPDATE pj SET id = 4, d = json_remove(d, '$[2]') WHERE id = 3; COMMIT",
            "SET SESSION binlog_row_value_options = ''; UPDATE pj SET d = json_set(d, '$.z', 1) WHERE id = 2",
        ),
        ("pj",), only="mysql",
    ),
    "tables without a key": Case(
        "CREATE TABLE kl (a int, b varchar(9), f float, d double); INSERT INTO kl VALUES (1, 'x', 0.1, 0.1), (1, 'x', 0.1, 0.1),"
        "(1, 'x', 0.1, 0.1), (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL), (2, 'X', 1e10, 1e-5)",
        (
            "DELETE FROM kl WHERE a = 1 LIMIT 1; UPDATE kl SET b = 'y' WHERE a = 1 LIMIT 1",
            "DELETE FROM kl WHERE a IS NULL LIMIT 1; UPDATE kl SET b = 'x' WHERE b = 'X'; INSERT INTO kl SELECT * FROM kl",
            "UPDATE kl SET f = f + 1, d = d * 3 WHERE a = 1; DELETE FROM kl WHERE b = 'y' LIMIT 1; UPDATE kl SET a = 5 WHERE a IS NULL",
        ),
        ("kl",),
    ),
    "tables made from others": Case(
        "CREATE TABLE origin (id int PRIMARY KEY, v varchar(9) DEFAULT 'd'); INSERT INTO origin VALUES (1, 'a'), (2, 'b')",
        (
            "CREATE TABLE likened LIKE origin; INSERT INTO likened SELECT * FROM origin; UPDATE likened SET v = 'l' WHERE id = 1",
            "CREATE TABLE selected (PRIMARY KEY (id)) AS SELECT id, v, id * 2 AS twice FROM origin; INSERT INTO selected VALUES (7, 'x', 8)",
            "CREATE TABLE bare SELECT id FROM origin; INSERT INTO bare VALUES (1)",
            "CREATE TEMPORARY TABLE tmp AS SELECT * FROM origin; INSERT INTO tmp VALUES (50, 't'); INSERT INTO origin SELECT * FROM tmp WHERE id = 50;"
            "DROP TEMPORARY TABLE tmp",
        ),
        ("origin", "likened", "selected", "bare"),
    ),
    "one name twice": Case(
        "CREATE TABLE dc (id int PRIMARY KEY, v int); INSERT INTO dc VALUES (1, 1), (2, 2);"
        "CREATE TABLE dd (id int PRIMARY KEY); INSERT INTO dd VALUES (1)",
        (
            "INSERT INTO dc VALUES (3, 3); DROP TABLE dc; CREATE TABLE dc (id varchar(9) PRIMARY KEY, w text);"
            "INSERT INTO dc VALUES ('x', 'new'); UPDATE dc SET w = 'newer'",
        ),
        ("dc", "dd"),
    ),
    "gh-ost": Case(
        "CREATE TABLE gh (id int PRIMARY KEY, v varchar(9)); INSERT INTO gh VALUES (1, 'a'), (2, 'b')",
        (
            "CREATE TABLE _gh_gho LIKE gh; ALTER TABLE _gh_gho ADD COLUMN extra int NOT NULL DEFAULT 3;"
            "INSERT IGNORE INTO _gh_gho (id, v) SELECT id, v FROM gh",
            "UPDATE gh SET v = 'c' WHERE id = 1; REPLACE INTO _gh_gho (id, v) VALUES (1, 'c')",
            "RENAME TABLE gh TO _gh_del, _gh_gho TO gh; INSERT INTO gh VALUES (3, 'd', 4); DROP TABLE _gh_del",
            "UPDATE gh SET extra = 9 WHERE id = 2",
        ),
        ("gh",),
    ),
    "pt-online-schema-change": Case(
        "CREATE TABLE pt (id int PRIMARY KEY, v varchar(9)); INSERT INTO pt VALUES (1, 'a'), (2, 'b')",
        (
            "CREATE TABLE _pt_new LIKE pt; ALTER TABLE _pt_new ADD COLUMN extra int, MODIFY v varchar(30);"
            "CREATE TRIGGER pt_ins AFTER INSERT ON pt FOR EACH ROW REPLACE INTO _pt_new (id, v) VALUES (NEW.id, NEW.v);"
            "CREATE TRIGGER pt_upd AFTER UPDATE ON pt FOR EACH ROW REPLACE INTO _pt_new (id, v) VALUES (NEW.id, NEW.v);"
            "CREATE TRIGGER pt_del AFTER DELETE ON pt FOR EACH ROW DELETE IGNORE FROM _pt_new WHERE id <=> OLD.id",
            "INSERT INTO pt VALUES (3, 'c'); INSERT LOW_PRIORITY IGNORE INTO _pt_new (id, v) SELECT id, v FROM pt LOCK IN SHARE MODE",
            "UPDATE pt SET v = 'd' WHERE id = 1; DELETE FROM pt WHERE id = 2",
            "RENAME TABLE pt TO _pt_old, _pt_new TO pt; DROP TRIGGER pt_ins; DROP TRIGGER pt_upd; DROP TRIGGER pt_del;"
            "DROP TABLE _pt_old; INSERT INTO pt VALUES (4, 'a longer text', 5)",
        ),
        ("pt",),
    ),
    "emptied tables": Case(
        "CREATE TABLE tr (id int PRIMARY KEY AUTO_INCREMENT, v int); INSERT INTO tr (v) VALUES (1), (2), (3);"
        "CREATE TABLE tf (id int PRIMARY KEY); INSERT INTO tf VALUES (1), (2)",
        (
            "INSERT INTO tr (v) VALUES (4); TRUNCATE TABLE tr; INSERT INTO tr (v) VALUES (10), (11); TRUNCATE tr; INSERT INTO tr (v) VALUES (12)",
            "DELETE FROM tf; INSERT INTO tf VALUES (5)",
        ),
        ("tr", "tf"),
    ),
    "partitions": Case(
        "CREATE TABLE pa (id int PRIMARY KEY, v int) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10),"
        " PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30), PARTITION p3 VALUES LESS THAN MAXVALUE);"
        "CREATE TABLE px (id int PRIMARY KEY, v int); INSERT INTO px VALUES (22, 22), (23, 23);"
        "INSERT INTO pa VALUES (1, 1), (11, 1), (21, 1), (31, 1);"
        "CREATE TABLE pb (id int PRIMARY KEY, v int) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10),"
        " PARTITION p1 VALUES LESS THAN MAXVALUE); INSERT INTO pb VALUES (1, 1), (11, 1)",
        (
            "UPDATE pa SET id = id + 1, v = 2 ORDER BY id DESC; INSERT INTO pa VALUES (12345, 0)",
            "ALTER TABLE pa DROP PARTITION p0; INSERT INTO pa VALUES (13, 5)",
            "ALTER TABLE pb TRUNCATE PARTITION p1; INSERT INTO pb VALUES (14, 5)",
            "ALTER TABLE pa EXCHANGE PARTITION p2 WITH TABLE px; INSERT INTO pa VALUES (24, 6); INSERT INTO px VALUES (25, 7)",
            "ALTER TABLE pb REORGANIZE PARTITION p1 INTO (PARTITION p1 VALUES LESS THAN (50), PARTITION p2 VALUES LESS THAN MAXVALUE);"
            "INSERT INTO pb VALUES (60, 8); ALTER TABLE pb ADD COLUMN w int DEFAULT 4; INSERT INTO pb VALUES (61, 1, 1)",
        ),
        ("pa", "px", "pb"),
    ),
    "changed shapes": Case(
        "CREATE TABLE al (id int PRIMARY KEY, a int, b varchar(10), c decimal(8,2)); INSERT INTO al VALUES (1, 1, 'one', 1.5), (2, NULL, NULL, NULL)",
        (
            "ALTER TABLE al ADD COLUMN f int NOT NULL DEFAULT 7 FIRST; INSERT INTO al VALUES (8, 3, 3, 'three', 3)",
            "ALTER TABLE al ADD COLUMN g varchar(9) NOT NULL AFTER a, ADD COLUMN h datetime NULL DEFAULT '2024-01-01 00:00:00'; UPDATE al SET a = 5 WHERE id = 2",
            "ALTER TABLE al CHANGE a aa bigint, CHANGE g g2 varchar(40) NOT NULL DEFAULT 'x'; INSERT INTO al (f, id, aa) VALUES (1, 4, 5000000000)",
            "ALTER TABLE al RENAME COLUMN b TO bb, RENAME COLUMN c TO b; INSERT INTO al (f, id, bb, b) VALUES (1, 5, 'five', 5.25)",
            "ALTER TABLE al RENAME COLUMN b TO bb, RENAME COLUMN bb TO b; INSERT INTO al (f, id, b, bb) VALUES (1, 6, 'six', 6.25)",
            "ALTER TABLE al DROP COLUMN f, MODIFY bb decimal(20,2); UPDATE al SET bb = 12345678901.12 WHERE id = 1",
            "ALTER TABLE al MODIFY id bigint, MODIFY b text AFTER id; INSERT INTO al (id, b) VALUES (6000000000, repeat('t', 300))",
            "ALTER TABLE al DROP COLUMN h, ADD COLUMN h int DEFAULT 3, ADD UNIQUE KEY uk (aa); INSERT INTO al (id) VALUES (7)",
            "ALTER TABLE al DROP COLUMN h, ADD COLUMN h int DEFAULT 4; INSERT INTO al (id) VALUES (10)",
            "ALTER TABLE al ADD COLUMN s int DEFAULT 1, ADD COLUMN w int DEFAULT 2; INSERT INTO al (id, s, w) VALUES (11, 3, 4)",
            "ALTER TABLE al CHANGE s w int DEFAULT 2, CHANGE w s int DEFAULT 1 AFTER h; INSERT INTO al (id, s, w) VALUES (12, 5, 6)",
            "ALTER TABLE al ADD COLUMN e enum('x','y') DEFAULT 'y', ADD COLUMN j json; UPDATE al SET e = 'x', j = '{\"k\": [1, 2]}' WHERE id = 1",
            "ALTER TABLE al MODIFY e enum('y','x','z') DEFAULT 'z'; INSERT INTO al (id) VALUES (8)",
            "ALTER TABLE al COMMENT = 'nothing', ADD INDEX plain (h); ALTER TABLE al ENGINE = InnoDB; INSERT INTO al (id) VALUES (9)",
        ),
        ("al",),
    ),
    "another character set": Case(
        "CREATE TABLE cc (id int PRIMARY KEY, v varchar(20), w text, l varchar(9) CHARACTER SET gbk) CHARACTER SET latin1;"
        "INSERT INTO cc VALUES (1, 'é€', 'ü', '中'), (2, NULL, 'x', NULL)",
        (
            "UPDATE cc SET v = 'ñ' WHERE id = 2",
            "ALTER TABLE cc CONVERT TO CHARACTER SET utf8mb4; INSERT INTO cc VALUES (3, '日本😀', 'é', '文')",
            "ALTER TABLE cc MODIFY v varchar(20) CHARACTER SET utf16, MODIFY w mediumtext CHARACTER SET utf8mb4; INSERT INTO cc VALUES (4, '本é', 'w', 'x')",
        ),
        ("cc",),
    ),
    "other storage engines": Case(
        "CREATE TABLE my (id int PRIMARY KEY, v varchar(9)) ENGINE = MyISAM; INSERT INTO my VALUES (1, 'a'), (2, 'b');"
        "CREATE TABLE mix (id int PRIMARY KEY, v int); INSERT INTO mix VALUES (1, 1)",
        (
            "INSERT INTO my VALUES (3, 'c'); UPDATE my SET v = 'z' WHERE id = 1; DELETE FROM my WHERE id = 2",
            "INSERT INTO my VALUES (4, 'in'); INSERT INTO mix VALUES (2, 2); INSERT INTO my VALUES (6, 'six'), (7, NULL)",
            "UPDATE my SET id = id + 10 ORDER BY id DESC; ALTER TABLE my ADD COLUMN w int DEFAULT 2; INSERT INTO my VALUES (5, 'x', 6)",
        ),
        ("my", "mix"),
    ),
    "loaded files": Case(
        "CREATE TABLE ld (id int PRIMARY KEY, v varchar(40), n int)",
        (
            "LOAD DATA LOCAL INFILE '{file}' INTO TABLE ld CHARACTER SET utf8mb4 FIELDS TERMINATED BY ','",
            "LOAD DATA LOCAL INFILE '{file}' REPLACE INTO TABLE ld CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' (id, v, @n) SET n = 5",
        ),
        ("ld",),
    ),
    "sequences": Case(
        "CREATE SEQUENCE sq; CREATE TABLE sqt (id bigint PRIMARY KEY DEFAULT nextval(sq), v int); INSERT INTO sqt (v) VALUES (1)",
        ("INSERT INTO sqt (v) VALUES (2), (3); SELECT nextval(sq); INSERT INTO sqt (v) VALUES (4)",),
        ("sqt",), only="mariadb",
    ),
}
# fmt: on
