-- One statement, not batches: organizations have a few domains each.
UPDATE organization_domains SET domain = lower(domain) WHERE domain <> lower(domain);
