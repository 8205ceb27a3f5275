"""The age of the newest proved backup: keyhub.H050 and H051. Where BACKUP_URL is not set, nothing is looked for."""

from collections.abc import Iterator

from django.conf import settings

from keyhub.dbhealth.examination import Examination
from keyhub.dbhealth.findings import Finding, Severity
from keyhub.durations import parse_duration

MAKE_ONE = "manage.py dbbackup --prove"


def backups(examination: Examination) -> Iterator[Finding]:
    """Tell how old it is, and warn where it is older than BACKUP_MAX_AGE, there is none, or the store does not say."""
    if not settings.BACKUP_URL:
        return
    # Every command of manage.py imports this module, and few of them a store.
    from keyhub.dbbackup.errors import BackupError
    from keyhub.dbbackups import freshness
    from keyhub.store import Store, StoreError

    try:
        oldest = parse_duration(settings.BACKUP_MAX_AGE)
        newest = freshness.newest_proved(Store(settings.BACKUP_URL), examination.connection)
    except ValueError as error:
        yield Finding("keyhub.H051", Severity.WARNING, "BACKUP_MAX_AGE", str(error), "correct BACKUP_MAX_AGE")
    except (BackupError, StoreError) as error:
        yield Finding("keyhub.H051", Severity.WARNING, "BACKUP_URL", str(error), "make the store readable from here")
    else:
        if newest is None:
            yield Finding(
                "keyhub.H050", Severity.WARNING, "BACKUP_URL", "no backup of this database is proved", MAKE_ONE
            )
            return
        age = freshness.words(newest.age)
        examination.report.notes.append(f"the newest proved backup, {newest.backup.backup}, is {age} old")
        if newest.age > oldest:
            problem = f"the newest proved backup is {age} old, and may be {freshness.words(oldest)}"
            yield Finding("keyhub.H050", Severity.WARNING, newest.backup.backup, problem, MAKE_ONE)
