CREATE TABLE badges (
    id bigint PRIMARY KEY,
    created_by uuid REFERENCES users (id) ON DELETE SET NULL,
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    UNIQUE (tenant_id, id)
);
CREATE INDEX idx_badges_created_by ON badges (created_by) WHERE created_by IS NOT NULL;
