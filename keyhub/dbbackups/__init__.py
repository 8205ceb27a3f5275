"""Looking after backups: which there are, proving one by restoring it, and which are old enough to go.

prove       restore into a scratch database, compare, drop it, sign the result into the manifest
retention   which backups go
freshness   how old the newest proved one is
"""
