-- A path of this site: //host and /\host lead elsewhere, and browsers leave out control characters between the two.
ALTER TABLE oauth_states ADD CONSTRAINT check_oauth_redirect_uri
    CHECK (redirect_uri ~ '^/([^/\\\u0001-\u001f\u007f-\u009f][^\\\u0001-\u001f\u007f-\u009f]*)?$') NOT VALID;
ALTER TABLE oauth_states ADD CONSTRAINT check_oauth_browser_digest
    CHECK (browser_digest ~ '^[0-9a-f]{64}$') NOT VALID;
