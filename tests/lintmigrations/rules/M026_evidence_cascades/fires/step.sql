CREATE TABLE audit_logs (id uuid PRIMARY KEY, user_id uuid REFERENCES users (id) ON DELETE CASCADE);
CREATE INDEX idx_audit_logs_user ON audit_logs (user_id);
CREATE TABLE events (user_id uuid, FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE) PARTITION BY HASH (user_id);
CREATE INDEX idx_events_user ON events (user_id);
