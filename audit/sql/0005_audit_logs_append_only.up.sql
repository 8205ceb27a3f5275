CREATE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE restrict_violation USING
        TABLE = 'audit_logs', CONSTRAINT = 'audit_logs_append_only',
        MESSAGE = format('%s on %s is refused, because audit_logs is append-only. Record a correcting entry instead.',
            TG_OP, TG_TABLE_NAME);
END
$$;

-- Every partition gets this one by itself, also those that come.
CREATE TRIGGER refuse_audit_logs_change
    BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();

-- TRUNCATE knows no row, and a trigger on the parent does not see that of a partition. auditpartitions gives it to
-- the partitions that come.
CREATE TRIGGER refuse_audit_logs_truncate
    BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass ORDER BY 1 LOOP
        EXECUTE format(
            'CREATE TRIGGER refuse_audit_logs_truncate BEFORE TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()',
            part
        );
    END LOOP;
END
$$;
