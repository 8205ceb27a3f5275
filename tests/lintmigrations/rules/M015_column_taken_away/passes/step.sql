ALTER TABLE tenants DROP COLUMN colour;
