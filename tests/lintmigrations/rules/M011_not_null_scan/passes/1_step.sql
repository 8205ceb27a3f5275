ALTER TABLE tenants ADD CONSTRAINT tenants_description_not_null CHECK (description IS NOT NULL) NOT VALID;
