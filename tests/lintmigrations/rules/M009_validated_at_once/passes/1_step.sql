ALTER TABLE tenants ADD CONSTRAINT check_name CHECK (name <> '') NOT VALID;
