"""The checks that concern every app, in the order in which they run and their mends can be run."""

from keyhub.dbhealth import backups, copies, data, drift_checks, records, replicas, server, split
from keyhub.dbhealth.examination import Phase, register

register(records.pending, ["keyhub.H001"], phases=[Phase.POST_MIGRATE], to_serve=["keyhub.H001"])
register(records.recorded, ["keyhub.H001"], to_serve=["keyhub.H001"])
register(records.applied, ["keyhub.H005", "keyhub.H006", "keyhub.H007"])
register(records.elsewhere, ["keyhub.H008"])
register(drift_checks.drift, sorted({*drift_checks.IDS.values(), drift_checks.STALE}), may_wait=True)
register(server.server, [f"keyhub.H{number:03}" for number in range(20, 36)], phases=[Phase.PRE_MIGRATE])
# By its id alone: who monitors may do so on a standby, or as a role that is read-only on purpose.
register(server.takes_writes, ["keyhub.H036"], to_serve=["keyhub.H036"], by_id_alone=True)
register(replicas.replicas, ["keyhub.H037", "keyhub.H038", "keyhub.H039"], phases=[])
register(backups.backups, ["keyhub.H050", "keyhub.H051"], phases=[Phase.PRE_MIGRATE])
register(split.split, [f"keyhub.H{number:03}" for number in range(60, 70) if number != 68], phases=[Phase.POST_MIGRATE])
register(copies.copies, ["keyhub.H068"], reads_rows=True)
register(data.orphans, [data.ORPHANS], reads_rows=True)
