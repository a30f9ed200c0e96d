-- What the source starts with: run once as root, when its volume is made. `shop` may do everything in its database
-- already; these two are what a reader of the log needs.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO shop@'%';
CREATE TABLE customers (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name varchar(100) NOT NULL,
    city varchar(60),
    since timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
) CHARACTER SET utf8mb4;
CREATE TABLE orders (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    customer_id bigint NOT NULL,
    total decimal(12, 2) NOT NULL,
    tags json NOT NULL,
    status enum('new', 'paid', 'shipped') NOT NULL DEFAULT 'new',
    placed_at datetime(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    FOREIGN KEY (customer_id) REFERENCES customers (id)
) CHARACTER SET utf8mb4;
INSERT INTO customers (name, city)
WITH digits AS (
    SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
    UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
)
SELECT concat('customer ', a.d + b.d * 10 + c.d * 100 + e.d * 1000), elt(a.d % 4 + 1, 'Bergen', 'Turin', 'Porto', 'Graz')
FROM digits AS a, digits AS b, digits AS c, digits AS e;
INSERT INTO orders (customer_id, total, tags)
WITH digits AS (
    SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
    UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
)
SELECT customers.id, customers.id % 500 + 0.99, json_array('web', a.d) FROM customers, digits AS a;
