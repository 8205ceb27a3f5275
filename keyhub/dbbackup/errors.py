class BackupError(Exception):
    """A backup cannot be made, read, proved or restored; the text tells people what, why, and what to do."""
