UPDATE oauth_states SET redirect_uri = 'http://10.1.2.3/callback' WHERE redirect_uri IS NULL;
