DROP TRIGGER refuse_to_undo_anonymization ON users;
DROP FUNCTION refuse_to_undo_anonymization();
DROP TRIGGER refuse_identities_of_anonymized_users ON user_identities;
DROP FUNCTION refuse_identity_of_anonymized_user();
DROP TRIGGER forget_identities ON users;
DROP FUNCTION forget_identities();
