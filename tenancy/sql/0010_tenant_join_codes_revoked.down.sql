DROP TRIGGER end_redemptions ON tenant_memberships;
DROP FUNCTION end_redemptions();
DROP FUNCTION revoke_join_code(uuid, boolean);
DROP FUNCTION normalize_join_code(text);
ALTER TABLE tenant_join_code_redemptions DROP CONSTRAINT tenant_join_code_redemptions_membership_id_user_id_fkey;
