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

-- Whoever comes back does so by what lets them in now: what an earlier code gave is over.
CREATE FUNCTION end_redemptions() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenant_join_code_redemptions SET ended_at = statement_timestamp()
    WHERE membership_id = NEW.id AND ended_at IS NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER end_redemptions
    BEFORE UPDATE OF left_at ON tenant_memberships
    FOR EACH ROW WHEN (OLD.left_at IS NOT NULL AND NEW.left_at IS NULL)
    EXECUTE FUNCTION end_redemptions();

-- Revoke a code and, where asked, take back the memberships that it gave last. Returns how many were taken back. What
-- comes after the first statement sees what was redeemed until it got hold of the code; nothing is afterwards. The
-- admins are locked as by whoever leaves, in one order.
CREATE FUNCTION revoke_join_code(code_id uuid, take_back boolean) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    taken bigint := 0;
BEGIN
    UPDATE tenant_join_codes SET revoked_at = statement_timestamp() WHERE id = code_id AND revoked_at IS NULL;
    IF take_back THEN
        PERFORM FROM tenant_memberships
        WHERE tenant_id = (SELECT tenant_id FROM tenant_join_codes WHERE id = code_id)
            AND role = 'admin' AND left_at IS NULL
        ORDER BY id
        FOR NO KEY UPDATE;
        UPDATE tenant_memberships SET left_at = statement_timestamp(), left_reason = 'code_revoked'
        WHERE left_at IS NULL AND id IN (
            SELECT membership_id FROM tenant_join_code_redemptions WHERE join_code_id = code_id AND ended_at IS NULL
        );
        GET DIAGNOSTICS taken = ROW_COUNT;
    END IF;
    RETURN taken;
END
$$;
