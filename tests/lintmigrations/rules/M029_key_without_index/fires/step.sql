CREATE TABLE badges (
    id bigint PRIMARY KEY,
    created_by uuid REFERENCES users (id) ON DELETE SET NULL
);
