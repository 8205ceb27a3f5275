"""`manage.py splitadmin`: the models of the Admin database move into it, live, and back again.

procedure      the steps, each of which can be killed and taken up again, and the ways back
preconditions  what must be so before anything is changed
record         the table keyhub_split: where the rows are written, and how far a move is
sessions       sessions of our own on both servers
replication    publications, slots and subscriptions, and how far one has come
cutover        the moment in which writers are paused, and the home of the rows changes
copying        the rows of a table in two databases, compared and made the same
replacement    one of the two gives its place to a restored copy
mending        what is left to do when one of the two was restored, or replication has ended
digests        whether both databases have the same rows, in two snapshots of the same moment
plan           the steps in words

docs/operations/splitadmin.md
"""
