DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT tgrelid::regclass FROM pg_trigger WHERE tgname = 'refuse_audit_logs_truncate' ORDER BY 1 LOOP
        EXECUTE format('DROP TRIGGER refuse_audit_logs_truncate ON %s', part);
    END LOOP;
END
$$;
DROP TRIGGER refuse_audit_logs_change ON audit_logs;
DROP FUNCTION refuse_audit_change();
