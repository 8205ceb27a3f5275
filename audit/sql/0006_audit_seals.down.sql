DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'refuse_audit_logs_insert' ORDER BY 1 LOOP
        EXECUTE format('DROP TRIGGER refuse_audit_logs_insert ON %s', part);
    END LOOP;
END
$$;
DROP FUNCTION refuse_audit_insert();

CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE restrict_violation USING
        TABLE = 'audit_logs', CONSTRAINT = 'audit_logs_append_only',
        MESSAGE = format('%s on %s is refused, because audit_logs is append-only. Record a correcting entry instead.',
            TG_OP, TG_TABLE_NAME);
END
$$;

DROP TRIGGER refuse_audit_seals_truncate ON audit_seals;
DROP TRIGGER refuse_audit_seals_change ON audit_seals;
