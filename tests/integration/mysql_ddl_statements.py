# ruff: noqa: E501 - one statement a line
"""DDL by hand: what people, migration tools and online schema changers write. `?` stands for another database."""

SHARED = r"""
CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(10), c decimal(8,2) NOT NULL DEFAULT 1.5)
ALTER TABLE t ADD COLUMN d datetime(3) DEFAULT '2024-1-2 3:4:5.5' FIRST
ALTER TABLE t ADD e varchar(20) CHARACTER SET utf8mb4 AFTER a
ALTER TABLE t ADD (f tinyint(1) unsigned, g text, UNIQUE KEY g_u (g(20)))
ALTER TABLE t CHANGE b bb varchar(30) NOT NULL DEFAULT 'x''y' AFTER id
ALTER TABLE t MODIFY a bigint unsigned FIRST
ALTER TABLE t MODIFY COLUMN `bb` char(7) charset binary
ALTER TABLE t DROP COLUMN e, ADD COLUMN e int NOT NULL, ADD COLUMN h float DEFAULT 0.1, DROP g
ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN bb TO a
ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a
ALTER TABLE t ALTER COLUMN c DROP DEFAULT, ALTER h SET DEFAULT 2.5, ALTER f SET DEFAULT NULL
ALTER TABLE t ALTER c SET DEFAULT 7
alter table `t` engine=InnoDB, comment='a, b (c) ; drop column id', auto_increment 5
ALTER TABLE t ADD INDEX (c), ADD UNIQUE (e), ADD KEY named (h, e DESC), ADD CONSTRAINT chk CHECK (id <> 77)
ALTER TABLE t DROP PRIMARY KEY
ALTER TABLE t ADD PRIMARY KEY (id, a)
ALTER TABLE t DROP INDEX e, DROP KEY named, DROP INDEX c
ALTER TABLE t DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
ALTER TABLE t ADD COLUMN i varchar(5), ADD j enum('a','B''c','d\\e',"f g ") DEFAULT 'B''c'
ALTER TABLE t MODIFY j enum('a','B''c','d\\e',"f g ",'z') NOT NULL DEFAULT 'z'
ALTER TABLE t CONVERT TO CHARACTER SET latin1
ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci
ALTER TABLE t ADD COLUMN k set('x','y','z') DEFAULT 'z,x', ADD l bit(5) DEFAULT b'101', ADD m binary(4) DEFAULT 'ab'
ALTER TABLE t ADD n varbinary(5) DEFAULT 0x4142, ADD o year DEFAULT 24, ADD p time DEFAULT '10:11', ADD q date DEFAULT '2024-2-3'
ALTER TABLE t ADD r timestamp NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, ADD s timestamp(3) NOT NULL DEFAULT now(3)
ALTER TABLE t ADD u double precision DEFAULT -1.5e0, ADD v real, ADD w float(30), ADD x float(7,3), ADD y fixed(5), ADD z dec
ALTER TABLE t ADD aa integer(4) zerofill DEFAULT 5, ADD ab int4 unsigned, ADD ac int1, ADD ad int2, ADD ae int3, ADD af int8, ADD ag middleint
ALTER TABLE t ADD ah character varying(9), ADD ai char varying(3), ADD aj national char(4), ADD ak nchar varchar(5), ADD al long varchar, ADD am long
ALTER TABLE t ADD an text(10), ADD ao blob(300), ADD ap text(70000), ADD aq long varbinary, ADD ar char byte, ADD at nvarchar(3), ADD au national varchar(4)
ALTER TABLE t ADD av int AS (id + 1) VIRTUAL, ADD aw int GENERATED ALWAYS AS (id + 2) STORED, ADD ax varchar(9) AS (concat('a',`i`)) stored
ALTER TABLE t ADD ay varchar(4) ascii, ADD az varchar(4) unicode, ADD ba varchar(4) binary, ADD bb char(3) charset latin1 binary
ALTER TABLE t ADD bc json, ADD bd geometry, ADD be point, ADD bf geometrycollection, ADD bg bool DEFAULT true, ADD bh boolean NOT NULL
ALTER TABLE t DROP COLUMN av, DROP COLUMN aw, DROP ax, DROP bc
ALTER TABLE t DROP bd, DROP be RESTRICT, DROP bf CASCADE, ADD COLUMN `odd ``name, (x)` int COMMENT 'a''b, c' AFTER `id`
ALTER TABLE t CHANGE `odd ``name, (x)` `Ünïcode 名` varchar(3) COLLATE utf8mb4_bin DEFAULT 'é'
ALTER TABLE t ADD COLUMN neg int DEFAULT -7, ADD pos int DEFAULT +8, ADD fl int DEFAULT '9', ADD st varchar(9) DEFAULT 10, ADD hx int DEFAULT 0x10
ALTER TABLE t ORDER BY a, c DESC
ALTER TABLE t FORCE, ALGORITHM=COPY, LOCK=SHARED
ALTER TABLE t MODIFY a bigint unsigned AFTER c, MODIFY d datetime AFTER a, ADD bi int AFTER d, ADD bj int AFTER bi, ADD bk int FIRST
ALTER TABLE t CHANGE bi bl int AFTER bk, ADD bm int AFTER bl
ALTER TABLE t RENAME TO t_renamed
ALTER TABLE t_renamed RENAME t
ALTER TABLE t RENAME AS `?`.`t moved`, ADD COLUMN on_the_way int
RENAME TABLE `?`.`t moved` TO t
CREATE TABLE t2 LIKE t
CREATE TABLE IF NOT EXISTS t2 (never int)
/* a comment */ ALTER /* another */ TABLE -- to the end
  t2 # also
  ADD COLUMN /*!50000 versioned int, ADD COLUMN */ /*!999999 never int, ADD COLUMN */ plain int
ALTER TABLE t2 /*M!100100 ADD COLUMN only_maria int, */ ADD COLUMN all_of_them int
CREATE /* gh-ost */ TABLE `_t_gho` like `t`
ALTER /* gh-ost */ TABLE `_t_gho` ADD COLUMN gho int NOT NULL DEFAULT 4, DROP COLUMN neg
RENAME /* gh-ost */ TABLE `t` TO `_t_del`, `_t_gho` TO `t`
DROP /* gh-ost */ TABLE IF EXISTS `_t_del`
CREATE TABLE `_t_new` (`id` int(11) NOT NULL AUTO_INCREMENT, `name` varchar(20) DEFAULT NULL, `when` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, PRIMARY KEY (`id`), UNIQUE KEY `name` (`name`), KEY `w` (`when`) USING BTREE) ENGINE=InnoDB AUTO_INCREMENT=4 DEFAULT CHARSET=latin1 COLLATE=latin1_bin COMMENT='x'
ALTER TABLE `_t_new` ADD COLUMN extra INT UNSIGNED NOT NULL DEFAULT '0'
RENAME TABLE t TO `_t_old`, `_t_new` TO t
RENAME TABLE t TO tmp, t2 TO t, tmp TO t2
DROP TABLE IF EXISTS `_t_old`, nothing_there
CREATE TABLE u (a int NOT NULL, b int NOT NULL, c int, UNIQUE KEY z (a), UNIQUE y (b), UNIQUE (c))
ALTER TABLE u DROP INDEX z
ALTER TABLE u MODIFY c int NOT NULL
ALTER TABLE u DROP INDEX y
ALTER TABLE u DROP COLUMN c
CREATE UNIQUE INDEX i ON u (b, a)
ALTER TABLE u RENAME INDEX i TO k
ALTER TABLE u CHANGE b bee bigint NOT NULL
DROP INDEX k ON u
ALTER TABLE u ADD serial_ serial
ALTER TABLE u MODIFY serial_ bigint unsigned NOT NULL, DROP INDEX serial_, ADD id int NOT NULL AUTO_INCREMENT PRIMARY KEY FIRST
ALTER TABLE u ADD COLUMN x int UNIQUE KEY, ADD y int NOT NULL UNIQUE
TRUNCATE TABLE u
TRUNCATE u
CREATE TABLE v (id int, PRIMARY KEY (id)) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20), PARTITION p2 VALUES LESS THAN (30))
ALTER TABLE v DROP PARTITION p0, p1
ALTER TABLE v ADD PARTITION (PARTITION p3 VALUES LESS THAN (40), PARTITION p4 VALUES LESS THAN MAXVALUE)
ALTER TABLE v REORGANIZE PARTITION p3, p4 INTO (PARTITION p5 VALUES LESS THAN MAXVALUE)
ALTER TABLE v TRUNCATE PARTITION p2, p5
ALTER TABLE v ADD COLUMN n int NOT NULL DEFAULT 1, ALGORITHM=INPLACE
ALTER TABLE v REMOVE PARTITIONING
ALTER TABLE v ADD COLUMN o int PARTITION BY HASH(id) PARTITIONS 4
ALTER TABLE v COALESCE PARTITION 2
CREATE TABLE w AS SELECT id, n, n + 1 AS plus FROM v
CREATE TABLE w2 (id int, extra varchar(3)) SELECT 1 AS one
CREATE TABLE x (a text, b tinytext, c mediumtext, d longtext, e varchar(100), f char(5), g enum('a','b')) CHARSET latin1
ALTER TABLE x CONVERT TO CHARACTER SET utf8mb4
ALTER TABLE x CONVERT TO CHARACTER SET latin1
ALTER TABLE x CONVERT TO CHARACTER SET utf8
ALTER TABLE x CONVERT TO CHARACTER SET utf8mb4, ADD h varchar(3) AFTER a
ALTER TABLE x COLLATE utf8mb4_general_ci, ADD i varchar(3), ADD jj varchar(3) COLLATE latin1_bin
ALTER TABLE x CHARACTER SET = ascii, MODIFY e varchar(100)
CREATE TABLE `we.ird ``q``` (`a b` int, `c,d` varchar(10) DEFAULT ',', `e(f)` int DEFAULT 1, `from` int, `?` int, first int, after int) DEFAULT COLLATE utf8mb4_unicode_ci
ALTER TABLE `we.ird ``q``` DROP `c,d`, ADD COLUMN `drop` int FIRST, ADD COLUMN `add` int AFTER `drop`, ADD after2 int AFTER after
ALTER TABLE `we.ird ``q``` MODIFY `from` varchar(30) DEFAULT "double ""quoted"" \"text\"" AFTER first, CHANGE `A B` ab int
ALTER TABLE `we.ird ``q``` ADD COLUMN nl varchar(9) DEFAULT 'a\nb', ADD bs varchar(9) DEFAULT 'a\\b', ADD qq varchar(9) DEFAULT 'a' 'b', ADD i18 varchar(9) DEFAULT _utf8mb4'x', ADD nn varchar(9) DEFAULT N'y'
ALTER TABLE `we.ird ``q``` ADD FULLTEXT KEY ft (nl), ADD COLUMN `primary` int, ADD COLUMN Number int
ALTER TABLE `we.ird ``q``` ADD bigdec decimal(65,30) DEFAULT 1.123456789012345678901234567890, ADD rounded decimal(5,1) DEFAULT 1.25, ADD unum decimal(6,2) unsigned zerofill
DROP TABLE `we.ird ``q```
ALTER DATABASE CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
CREATE TABLE y (a varchar(10), b varchar(10) CHARACTER SET latin1, c char(3) COLLATE utf8mb4_general_ci)
ALTER TABLE y CONVERT TO CHARACTER SET DEFAULT
CREATE TABLE parent (id int PRIMARY KEY)
CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent (id), q int, CONSTRAINT fk FOREIGN KEY (q) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE SET NULL)
ALTER TABLE child DROP FOREIGN KEY fk, DROP INDEX fk, ADD CONSTRAINT `f,k2` FOREIGN KEY (p) REFERENCES parent (id), ADD r int
DROP DATABASE `?`
"""

MYSQL = r"""
CREATE TABLE m (id int PRIMARY KEY, a varchar(36) DEFAULT (uuid()), b json DEFAULT (json_array()), c int DEFAULT (1 + 2), d datetime DEFAULT (now()), e point SRID 4326)
ALTER TABLE m ADD f int INVISIBLE
ALTER TABLE m ADD g geometry NOT NULL SRID 0, ADD h int DEFAULT (5) AFTER a, ALTER COLUMN f SET VISIBLE
ALTER TABLE m ADD INDEX fn ((c + 1))
ALTER TABLE m ALTER INDEX fn INVISIBLE
ALTER TABLE m ADD i int COLUMN_FORMAT DYNAMIC STORAGE DISK VISIBLE, ADD CONSTRAINT positive CHECK (i > 0) NOT ENFORCED
ALTER TABLE m ALTER CHECK positive ENFORCED, DROP INDEX fn
ALTER TABLE m DROP CHECK positive
ALTER TABLE m ADD j vector(3), ADD k vector
ALTER TABLE m ADD UNIQUE KEY uk (i)
ALTER TABLE m DROP CONSTRAINT uk
ALTER TABLE m ADD d2 date DEFAULT (curdate()), ADD t2 time(6) NOT NULL DEFAULT '-1:2:3.5', RENAME COLUMN h TO hh
CREATE TABLE n (a int UNIQUE) SELECT 1 AS a, 'x' AS b
CREATE TABLE o TABLE n
"""

MARIADB = r"""
CREATE SEQUENCE s
CREATE TABLE m (id int PRIMARY KEY, a uuid DEFAULT uuid(), b json, c int DEFAULT (1 + 2), d inet6, e inet4, f varchar(10) DEFAULT concat('a','b'), g varchar(100) COMPRESSED, h int INVISIBLE DEFAULT 4)
ALTER TABLE m ADD COLUMN IF NOT EXISTS id int, ADD COLUMN IF NOT EXISTS i int
ALTER TABLE m ADD COLUMN IF NOT EXISTS j int AS (id + 1) PERSISTENT
ALTER TABLE m DROP COLUMN IF EXISTS j, DROP COLUMN IF EXISTS nope, MODIFY COLUMN IF EXISTS nope int, ADD k int DEFAULT nextval(s)
ALTER TABLE m CHANGE COLUMN IF EXISTS k kk int DEFAULT 3, RENAME INDEX IF EXISTS nope TO nope2
ALTER ONLINE TABLE m ADD COLUMN l varchar(3) NOT NULL
ALTER IGNORE TABLE m ADD COLUMN ll varchar(3) NOT NULL
ALTER TABLE m WAIT 5 ADD COLUMN n blob DEFAULT 'abc', ADD o text DEFAULT 'it''s', ADD p longtext CHECK (json_valid(p))
ALTER TABLE m MODIFY b longtext, MODIFY p json
ALTER TABLE m CONVERT TO CHARACTER SET latin1
CREATE OR REPLACE TABLE m (id int, v varchar(9) COLLATE uca1400_ai_ci) CHARSET utf8mb4
CREATE OR REPLACE UNIQUE INDEX u ON m (id)
CREATE OR REPLACE UNIQUE INDEX u ON m (v)
CREATE UNIQUE INDEX IF NOT EXISTS u ON m (id)
ALTER TABLE m DROP CONSTRAINT IF EXISTS u, ADD CONSTRAINT c2 UNIQUE (id)
CREATE OR REPLACE TABLE r AS SELECT 1 AS a, 'b' AS b
CREATE OR REPLACE TABLE rr LIKE m
RENAME TABLE IF EXISTS rr WAIT 3 TO rrr, r TO rr
SET STATEMENT max_statement_time = 9 FOR ALTER TABLE m ADD COLUMN st int
ALTER TABLE m ADD SYSTEM VERSIONING
SET system_versioning_alter_history = KEEP
ALTER TABLE m ADD COLUMN after_versioning int
ALTER TABLE m DROP SYSTEM VERSIONING
DROP TABLES m, rrr
"""
