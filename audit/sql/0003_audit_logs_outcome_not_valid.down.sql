ALTER TABLE audit_logs DROP CONSTRAINT check_audit_outcome;
