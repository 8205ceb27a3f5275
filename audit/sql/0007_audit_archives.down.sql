DROP TRIGGER IF EXISTS refuse_audit_logs_insert ON audit_logs_default;

-- Months that were detached, and not dropped yet.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN
        SELECT tgrelid::regclass FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
        WHERE tgname = 'refuse_audit_logs_change' AND NOT relispartition AND relkind = 'r'
    LOOP
        EXECUTE format('DROP TRIGGER refuse_audit_logs_change ON %s', part);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION refuse_audit_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE restrict_violation USING
        TABLE = TG_TABLE_NAME, CONSTRAINT = 'audit_logs_sealed',
        MESSAGE = format('%s is sealed, and takes no row any more. Record the event with the time of the record.',
            TG_TABLE_NAME);
END
$$;

DROP TRIGGER refuse_audit_archives_truncate ON audit_archives;
DROP TRIGGER refuse_audit_archives_change ON audit_archives;
ALTER TABLE audit_archives DROP CONSTRAINT audit_archives_month_fkey;
