CREATE TABLE badges (id bigint PRIMARY KEY, label text UNIQUE, tenant_id uuid, UNIQUE (tenant_id, label));
CREATE INDEX idx_badges_by_id ON badges (label, id);
CREATE INDEX idx_badges_mine ON badges (label) WHERE tenant_id IS NULL;
CREATE INDEX idx_badges_hash ON badges USING hash (label);
