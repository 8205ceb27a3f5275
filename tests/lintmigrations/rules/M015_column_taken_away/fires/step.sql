ALTER TABLE tenants DROP COLUMN description;
ALTER TABLE users RENAME COLUMN icon TO picture;
