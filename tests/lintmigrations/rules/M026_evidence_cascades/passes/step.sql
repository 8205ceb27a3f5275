CREATE TABLE audit_logs (id uuid PRIMARY KEY, user_id uuid);
CREATE TABLE badges (user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE);
