ALTER TABLE tenants ADD CONSTRAINT check_name CHECK (name <> '') NOT VALID;
ALTER TABLE tenants VALIDATE CONSTRAINT check_name;
