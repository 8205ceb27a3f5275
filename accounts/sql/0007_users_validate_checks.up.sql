ALTER TABLE users VALIDATE CONSTRAINT check_user_email;
ALTER TABLE users VALIDATE CONSTRAINT check_user_email_reserved;
ALTER TABLE users VALIDATE CONSTRAINT check_user_name;
ALTER TABLE users VALIDATE CONSTRAINT check_user_anonymized;
ALTER TABLE user_identities VALIDATE CONSTRAINT check_user_identity_provider;
ALTER TABLE user_identities VALIDATE CONSTRAINT check_user_identity_provider_sub;
