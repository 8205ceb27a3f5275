-- A rule cannot be made unvalidated again; it is taken away and put back unvalidated.
ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_redirect_uri;
ALTER TABLE oauth_states ADD CONSTRAINT check_oauth_redirect_uri
    CHECK (redirect_uri ~ '^/([^/\\\u0001-\u001f\u007f-\u009f][^\\\u0001-\u001f\u007f-\u009f]*)?$') NOT VALID;
ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_browser_digest;
ALTER TABLE oauth_states ADD CONSTRAINT check_oauth_browser_digest
    CHECK (browser_digest ~ '^[0-9a-f]{64}$') NOT VALID;
