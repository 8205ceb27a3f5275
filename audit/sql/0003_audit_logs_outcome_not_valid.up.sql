ALTER TABLE audit_logs ADD CONSTRAINT check_audit_outcome
    CHECK (outcome IN ('success', 'failure', 'denied')) NOT VALID;
