CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE TABLE badges (id uuid PRIMARY KEY DEFAULT uuid_generate_v4());
