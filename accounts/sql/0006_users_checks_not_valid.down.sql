ALTER TABLE user_identities DROP CONSTRAINT check_user_identity_provider_sub;
ALTER TABLE user_identities DROP CONSTRAINT check_user_identity_provider;
ALTER TABLE users DROP CONSTRAINT check_user_anonymized;
ALTER TABLE users DROP CONSTRAINT check_user_name;
ALTER TABLE users DROP CONSTRAINT check_user_email_reserved;
ALTER TABLE users DROP CONSTRAINT check_user_email;
