CREATE TABLE audit_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    organization_id text NOT NULL,
    tenant_id uuid,
    tenant_label text,
    user_id uuid,
    actor_label text,
    action text NOT NULL,
    resource_type text NOT NULL,
    resource_id text,
    details jsonb,
    ip_address inet,
    user_agent text,
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

CREATE INDEX idx_audit_logs_organization ON audit_logs (organization_id, created_at DESC);
CREATE INDEX idx_audit_logs_tenant ON audit_logs (tenant_id, created_at DESC);
CREATE INDEX idx_audit_logs_user ON audit_logs (user_id, created_at DESC);
CREATE INDEX idx_audit_logs_action ON audit_logs (action, created_at DESC);
CREATE INDEX idx_audit_logs_resource ON audit_logs (resource_type, resource_id);
CREATE INDEX idx_audit_logs_created_at ON audit_logs (created_at DESC, id DESC);

-- A row that no month takes is kept here until auditpartitions moves it.
CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;

-- The current month and the three after it, by UTC and whatever the session's time zone is.
DO $$
DECLARE
    -- Months are counted without a time zone, in which '1 month' always ends on a first.
    this_month timestamp := date_trunc('month', statement_timestamp() AT TIME ZONE 'UTC');
    month timestamp;
BEGIN
    FOR ahead IN 0..3 LOOP
        month := this_month + make_interval(months => ahead);
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF audit_logs FOR VALUES FROM (%L) TO (%L)',
            to_char(month, '"audit_logs_"YYYY_MM'),
            to_char(month, 'YYYY-MM-DD HH24:MI:SS+00'),
            to_char(month + interval '1 month', 'YYYY-MM-DD HH24:MI:SS+00')
        );
    END LOOP;
END
$$;
