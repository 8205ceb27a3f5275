CREATE TABLE badges (id bigint PRIMARY KEY, label text UNIQUE, tenant_id uuid, UNIQUE (tenant_id, label));
CREATE INDEX idx_badges_label ON badges (label);
CREATE INDEX idx_badges_tenant_id ON badges (tenant_id);
