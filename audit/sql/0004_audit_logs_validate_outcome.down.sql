-- A rule cannot be made unvalidated again; it is taken away and put back unvalidated.
ALTER TABLE audit_logs DROP CONSTRAINT check_audit_outcome;
ALTER TABLE audit_logs ADD CONSTRAINT check_audit_outcome
    CHECK (outcome IN ('success', 'failure', 'denied')) NOT VALID;
