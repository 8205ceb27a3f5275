-- The membership and its user in one key: a redemption cannot speak of somebody else's membership.
ALTER TABLE tenant_join_code_redemptions ADD CONSTRAINT tenant_join_code_redemptions_membership_id_user_id_fkey
    FOREIGN KEY (membership_id, user_id) REFERENCES tenant_memberships (id, user_id) ON DELETE CASCADE;

-- A code as people type it: in any case, with spaces and hyphens anywhere, in the wide letters of a Japanese keyboard,
-- and with O, I and L for the digits that they look like.
CREATE FUNCTION normalize_join_code(code text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT translate(
        upper(regexp_replace(normalize(code, NFKC), '[\s\u200b\u2010-\u2015\u2212\u30fc_.-]', '', 'g') COLLATE "C"),
        'OIL', '011'
    )
$$;

-- Revoke a code and, where asked, take back the memberships that it gave last. Returns how many were taken back.
-- The second statement sees what was redeemed until the first one got hold of the code; nothing is afterwards.
CREATE FUNCTION revoke_join_code(code_id uuid, take_back boolean) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    taken bigint := 0;
BEGIN
    UPDATE tenant_join_codes SET revoked_at = statement_timestamp() WHERE id = code_id AND revoked_at IS NULL;
    IF take_back THEN
        UPDATE tenant_memberships SET left_at = statement_timestamp(), left_reason = 'code_revoked'
        WHERE left_at IS NULL AND code_id = (
            SELECT join_code_id FROM tenant_join_code_redemptions
            WHERE membership_id = tenant_memberships.id
            ORDER BY redeemed_at DESC
            LIMIT 1
        ) AND id IN (SELECT membership_id FROM tenant_join_code_redemptions WHERE join_code_id = code_id);
        GET DIAGNOSTICS taken = ROW_COUNT;
    END IF;
    RETURN taken;
END
$$;
