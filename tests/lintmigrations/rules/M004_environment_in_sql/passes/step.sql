UPDATE oauth_states SET redirect_uri = '/callback' WHERE redirect_uri IS NULL;
