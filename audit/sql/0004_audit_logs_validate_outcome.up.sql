ALTER TABLE audit_logs VALIDATE CONSTRAINT check_audit_outcome;
