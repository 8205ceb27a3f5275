-- Whoever monitors reads the records of migrations, and these.
GRANT SELECT ON audit_seals TO pg_monitor;

-- A seal is never changed; but the digest of names is made anew when a person's name is erased.
CREATE TRIGGER refuse_audit_seals_change
    BEFORE UPDATE OF number, month, rows, digest, previous, signature, sealed_at OR DELETE ON audit_seals
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER refuse_audit_seals_truncate
    BEFORE TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- One change is let through: names that are taken away, and nothing put in their place.
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME LIKE 'audit\_logs%' THEN
        IF to_jsonb(NEW) - '{actor_label,tenant_label}'::text[] = to_jsonb(OLD) - '{actor_label,tenant_label}'::text[]
            AND (NEW.actor_label IS NULL OR NEW.actor_label = OLD.actor_label)
            AND (NEW.tenant_label IS NULL OR NEW.tenant_label = OLD.tenant_label)
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE restrict_violation USING
        TABLE = TG_TABLE_NAME, CONSTRAINT = 'audit_logs_append_only',
        MESSAGE = format('%s on %s is refused, because audit_logs is append-only. Record a correcting entry instead.',
            TG_OP, TG_TABLE_NAME);
END
$$;

-- auditpartitions puts it on each month that it seals, as a trigger of the partition: no snapshot overlooks a trigger.
CREATE FUNCTION refuse_audit_insert() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE restrict_violation USING
        TABLE = TG_TABLE_NAME, CONSTRAINT = 'audit_logs_sealed',
        MESSAGE = format('%s is sealed, and takes no row any more. Record the event with the time of the record.',
            TG_TABLE_NAME);
END
$$;
