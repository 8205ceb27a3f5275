ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_browser_digest;
ALTER TABLE oauth_states DROP CONSTRAINT check_oauth_redirect_uri;
