"""What in the live database is not as the code says, and how to mend it.

examination      one read-only look at a database: what checks ask through
databases        one for each database that there is
records          Django's records of migrations
catalogue        what a database is made of (catalogue.sql), and the committed file of it (catalogue_file)
drift, mends     the two compared, and the SQL that makes them equal
server           what endangers the database as a whole: sequences, transaction ids, locks, replication, settings
placed           of the catalogue, what lives in one of two databases
split, feeds     where rows are written that may live in the other one, and how one follows the other
copies           whether both have the same rows
aside            a session beside the look, in the other database
data             what no constraint says of the rows
allowances       findings that are let pass until a date
report           what a run says, for people and for machines

An app registers the checks of what it knows itself, from its AppConfig.ready().
"""

from keyhub.dbhealth.data import DataRule, register_rules
from keyhub.dbhealth.examination import Check, Examination, Phase, made_at_run_time, register, run
from keyhub.dbhealth.findings import Finding, Report, Severity, Skipped, Unreadable

__all__ = [
    "Check",
    "DataRule",
    "Examination",
    "Finding",
    "Phase",
    "Report",
    "Severity",
    "Skipped",
    "Unreadable",
    "made_at_run_time",
    "register",
    "register_rules",
    "run",
]
