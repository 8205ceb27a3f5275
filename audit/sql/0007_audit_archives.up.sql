-- A month is archived as it was sealed.
ALTER TABLE audit_archives ADD CONSTRAINT audit_archives_month_fkey FOREIGN KEY (month) REFERENCES audit_seals (month);
GRANT SELECT ON audit_archives TO pg_monitor;

-- Where evidence lies is not forgotten. The file of names changes when a person's name is erased.
CREATE TRIGGER refuse_audit_archives_change
    BEFORE UPDATE OF month, folder, rows_bytes, rows_sha256, archived_at OR DELETE ON audit_archives
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER refuse_audit_archives_truncate
    BEFORE TRUNCATE ON audit_archives
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- DEFAULT has it too, for the months that are no longer there: auditpartitions puts it on when it detaches one.
CREATE OR REPLACE FUNCTION refuse_audit_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE restrict_violation USING
        TABLE = TG_TABLE_NAME, CONSTRAINT = 'audit_logs_sealed',
        MESSAGE = format('audit_logs_%s is sealed, and takes no row any more. '
            'Record the event with the time of the record.',
            to_char(NEW.created_at AT TIME ZONE 'UTC', 'YYYY_MM'));
END
$$;

-- Who retires months owns the tables. Nobody else may change rows, whatever was granted, or is by default.
DO $$
DECLARE
    revoke_from_one text;
BEGIN
    FOR revoke_from_one IN
        SELECT DISTINCT format('REVOKE UPDATE, DELETE, TRUNCATE ON %s FROM %s CASCADE', pg_class.oid::regclass,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
        FROM pg_class, LATERAL (
            SELECT grantee, privilege_type FROM aclexplode(relacl) UNION
            SELECT entry.grantee, entry.privilege_type FROM pg_attribute, aclexplode(attacl) AS entry
            WHERE attrelid = pg_class.oid
        ) AS granted
        WHERE privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE') AND grantee <> relowner
            AND (pg_class.oid IN ('audit_logs'::regclass, 'audit_seals'::regclass, 'audit_archives'::regclass)
                OR pg_class.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass))
    LOOP
        EXECUTE revoke_from_one;
    END LOOP;
END
$$;
