"""Connections to the server that takes writes, whichever it is after a failover: docs/failover.md.

base    Django's backend, which gives up a connection whose server takes no writes any more
"""

DJANGOS_ENGINE, ENGINE = "django.db.backends.postgresql", "keyhub.primary"
# What a session may be asked for that is to write; "any" and the like are for who reads.
WRITABLE = ("read-write", "primary")
# Without these a server whose machine is gone, and refuses nothing, is waited for as long as psycopg and the kernel do.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
IN_TIME = {
    "connect_timeout": "5",  # of each address, not 130 s; the first two packets that are lost are sent again by then
    # Who waits for an answer: the kernel asks for life after 5 s and every 2 s, and gives up after 11 s, not two hours.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # ms in which what was sent must have arrived, not a quarter of an hour
}


def to_the_primary(database: dict) -> dict:
    """Return an entry of DATABASES for an application that writes: its connections find the primary after a failover.

    What the entry says of a parameter stays. Where it asks for a session that need not write, or names an embedded
    server, which has no standby, nothing but times changes.
    """
    if database["ENGINE"] != DJANGOS_ENGINE:
        return database
    options = {**IN_TIME, **database["OPTIONS"]}
    if "," in database["HOST"] or "," in options.get("hostaddr", ""):
        options.setdefault("target_session_attrs", "read-write")  # else libpq takes the first one that answers
    writes = options.get("target_session_attrs", "read-write") in WRITABLE
    return {**database, "ENGINE": ENGINE if writes else DJANGOS_ENGINE, "OPTIONS": options}
