ALTER TABLE tenants ALTER COLUMN description SET NOT NULL;
ALTER TABLE tenants DROP CONSTRAINT tenants_description_not_null;
