"""The checks that concern every app, in the order in which they run and their mends can be run."""

from keyhub.dbhealth import backups, data, drift_checks, records, server
from keyhub.dbhealth.examination import Phase, register

register(records.pending, ["keyhub.H001"], phases=[Phase.POST_MIGRATE])
register(records.applied, ["keyhub.H001", "keyhub.H005", "keyhub.H006", "keyhub.H007"])
register(records.elsewhere, ["keyhub.H008"])
register(drift_checks.drift, sorted({*drift_checks.IDS.values(), drift_checks.STALE}), may_wait=True)
register(server.server, [f"keyhub.H{number:03}" for number in range(20, 36)], phases=[Phase.PRE_MIGRATE])
register(backups.backups, ["keyhub.H050", "keyhub.H051"], phases=[Phase.PRE_MIGRATE])
register(data.orphans, [data.ORPHANS], reads_rows=True)
