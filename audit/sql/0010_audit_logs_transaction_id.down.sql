ALTER TABLE audit_logs DROP COLUMN transaction_id;
