"""What each migration locks, rewrites and rebuilds, measured in a real run and committed as keyhub/locks.txt.

ledger    the file: one line per fact, read and written
modes     PostgreSQL's lock modes: which conflict, and who waits
scratch   the database in which the run takes place
observer  what one statement takes and rewrites
run       the run: every migration up and down
"""
