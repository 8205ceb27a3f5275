INSERT INTO tenants (id, name) VALUES ('f47ac10b-58cc-4372-a567-0e02b2c3d479', 'Default Team') ON CONFLICT DO NOTHING;
