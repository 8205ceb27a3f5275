-- The rows that are there get no value: with a default from the start, each would get one, and the table be rewritten.
ALTER TABLE audit_logs ADD COLUMN transaction_id xid8;
ALTER TABLE audit_logs ALTER COLUMN transaction_id SET DEFAULT pg_current_xact_id();
