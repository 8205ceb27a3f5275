ALTER TABLE sessions ADD COLUMN touched_at timestamptz DEFAULT statement_timestamp(), ADD COLUMN uses integer DEFAULT 0;
ALTER TABLE sessions ADD COLUMN nonce uuid;
ALTER TABLE sessions ALTER COLUMN nonce SET DEFAULT gen_random_uuid();
