"""Backups that count once they have been restored: dbbackup makes them, dbrestore restores, dbbackups looks after them.

encryption   to public keys, in the age format
sessions     of our own, beside Django's
programs     PostgreSQL's own programs, of the server's version
archive      pg_dump's output through zstd and age into a store, and the way back
measure      rows, digests, catalogue, roles: what a copy must have too
manifest     what a backup says of itself, written last; the signed proof that it was restored
backup       making one
"""
