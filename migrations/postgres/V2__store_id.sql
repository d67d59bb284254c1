-- Written like a journal's id: 26 characters of which hexadecimal digits are a subset.
INSERT INTO store_meta (name, value)
VALUES ('store_id', '0' || substr(upper(replace(gen_random_uuid()::text, '-', '')), 1, 25));
