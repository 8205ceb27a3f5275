ALTER TABLE users ADD CONSTRAINT check_user_email CHECK (
    length(email) <= 254
    AND email ~ '^[^@\s\u0001-\u001f\u007f]+@[^@.\s\u0001-\u001f\u007f]+(\.[^@.\s\u0001-\u001f\u007f]+)*$'
) NOT VALID;
ALTER TABLE users ADD CONSTRAINT check_user_email_reserved CHECK (
    anonymized_at IS NOT NULL OR email !~* '@anonymized\.invalid$'
) NOT VALID;
ALTER TABLE users ADD CONSTRAINT check_user_name CHECK (name ~ '\S') NOT VALID;
ALTER TABLE users ADD CONSTRAINT check_user_anonymized CHECK (
    anonymized_at IS NULL OR disabled_at IS NOT NULL
) NOT VALID;
ALTER TABLE user_identities ADD CONSTRAINT check_user_identity_provider CHECK (
    provider <> '' AND length(provider) <= 255
) NOT VALID;
ALTER TABLE user_identities ADD CONSTRAINT check_user_identity_provider_sub CHECK (
    provider_sub <> '' AND length(provider_sub) <= 255
) NOT VALID;
