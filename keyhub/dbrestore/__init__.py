"""Restoring a backup into a new database, compared with what it was made of before anybody sees it.

choice     which backup is meant
roles      the roles that it needs
database   a new database like the one it was made of, and the swap with one in use
load       rows from one stream into several COPYs at once
restore    the whole of it: verify, load, compare, give it its name
"""
