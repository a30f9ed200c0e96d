-- What the source starts with: run once, when its volume is made.
CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    city text,
    since timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers (id),
    total numeric(12, 2) NOT NULL,
    tags text[] NOT NULL DEFAULT '{}',
    placed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO customers (name, city)
SELECT 'customer ' || n, (ARRAY['Bergen', 'Turin', 'Porto', 'Graz'])[n % 4 + 1] FROM generate_series(1, 10000) AS n;
INSERT INTO orders (customer_id, total, tags)
SELECT n % 10000 + 1, n % 500 + 0.99, ARRAY['web'] FROM generate_series(1, 100000) AS n;
