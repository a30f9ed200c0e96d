-- The demo's shop in MySQL and MariaDB: five tables and some 300,000 rows. :customers and the like are filled in.
-- No foreign key deletes rows by itself: but for MySQL 9.6 and later, that would not be in the log.
create table customers (
    id bigint not null auto_increment primary key,
    name varchar(100) not null,
    email varchar(190) not null unique,
    country char(2) not null,
    active tinyint(1) not null default 1,
    credit decimal(12,2) not null default 0,
    joined_at timestamp not null default current_timestamp
);

create table products (
    id int unsigned not null auto_increment primary key,
    sku varchar(40) not null unique,
    name varchar(100) not null,
    price decimal(12,2) not null,
    stock int not null,
    attributes json not null,
    description text
);

create table orders (
    id bigint not null auto_increment primary key,
    customer_id bigint not null,
    status enum('new', 'paid', 'shipped', 'returned') not null default 'new',
    total decimal(12,2) not null default 0,
    placed_at datetime(3) not null default current_timestamp(3),
    delivery date,
    note text,
    key orders_customer (customer_id),
    foreign key (customer_id) references customers (id)
);

create table order_items (
    order_id bigint not null,
    line smallint unsigned not null,
    product_id int unsigned not null,
    quantity int not null check (quantity > 0),
    price decimal(12,2) not null,
    primary key (order_id, line),
    foreign key (order_id) references orders (id),
    foreign key (product_id) references products (id)
);

create table events (
    id bigint not null auto_increment primary key,
    at timestamp(6) not null default current_timestamp(6),
    kind varchar(20) not null,
    session binary(8) not null,
    channel set('web', 'app', 'partner') not null default 'web',
    payload json not null
);

create temporary table numbers (n int primary key);

insert into numbers
with digits as (
    select 0 as d union all select 1 union all select 2 union all select 3 union all select 4
    union all select 5 union all select 6 union all select 7 union all select 8 union all select 9
)
select one.d + ten.d * 10 + hundred.d * 100 + thousand.d * 1000 + more.d * 10000 + most.d * 100000 + 1
from digits as one, digits as ten, digits as hundred, digits as thousand, digits as more, digits as most
where one.d + ten.d * 10 + hundred.d * 100 + thousand.d * 1000 + more.d * 10000 + most.d * 100000 < :largest;

insert into customers (name, email, country, active, credit, joined_at)
select concat('Customer ', n), concat('c', n, '@example.com'), elt(n % 5 + 1, 'DE', 'FR', 'US', 'JP', 'BR'), n % 9 <> 0,
       n % 500 / 4, timestamp '2020-01-01 00:00:00' + interval n hour
from numbers where n <= :customers;

insert into products (sku, name, price, stock, attributes, description)
select concat('SKU-', n), concat('Product ', n), 1 + n % 9900 / 100, 1000,
       json_object('colour', elt(n % 3 + 1, 'red', 'green', 'blue'), 'weight', n % 100, 'name', concat('naïve ', n)),
       if(n % 20 = 0, repeat(sha2(n, 256), 60), null)
from numbers where n <= :products;

insert into orders (customer_id, status, total, placed_at, delivery, note)
select n * 7919 % :customers + 1, elt(n % 4 + 1, 'new', 'paid', 'shipped', 'returned'), n % 1000,
       timestamp '2023-01-01 00:00:00.250' + interval n * 5 minute,
       if(n % 3 = 0, date '2023-01-03' + interval n % 300 day, null), if(n % 10 = 0, 'ring twice, "please"\n', null)
from numbers where n <= :orders;

insert into order_items (order_id, line, product_id, quantity, price)
select n, line, (n * 31 + line * 17) % :products + 1, n % 4 + 1, 1 + n % 90
from numbers join (select 1 as line union all select 2 union all select 3 union all select 4) as part
  on line <= 1 + n % 4
where n <= :orders;

insert into events (at, kind, session, channel, payload)
select timestamp '2024-01-01 00:00:00' + interval n * 20 second, elt(n % 4 + 1, 'view', 'search', 'cart', 'login'),
       unhex(lpad(hex(n), 16, '0')), elt(n % 3 + 1, 'web', 'app', 'app,partner'),
       json_object('customer', n % :customers + 1, 'ms', n % 900, 'n', n)
from numbers where n <= :events;
