CREATE TABLE badges (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
