-- For sqlite3 :memory:. The table size(n), made by the caller, says how many rows.
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, owner INTEGER, price REAL, note TEXT);
WITH RECURSIVE row(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM row WHERE i < (SELECT n FROM size))
INSERT INTO item
  SELECT i, 'item ' || (i * 7919 % 100003), i * 31 % 1000, i % 977 / 7.0, hex(zeroblob(i % 60)) FROM row;
CREATE INDEX item_name ON item(name);
CREATE INDEX item_owner ON item(owner, price);
SELECT count(*), sum(price) FROM item WHERE name > 'item 5';
SELECT owner, count(*), avg(price), max(length(note)) FROM item GROUP BY owner ORDER BY 2 DESC, 1 LIMIT 3;
SELECT a.name, b.id FROM item a JOIN item b ON a.name = b.name AND a.id < b.id ORDER BY 1, 2 LIMIT 3;
UPDATE item SET note = note || name WHERE owner % 3 = 0;
DELETE FROM item WHERE owner % 5 = 1;
SELECT count(*), group_concat(DISTINCT substr(name, 1, 6)) FROM item;
VACUUM;
