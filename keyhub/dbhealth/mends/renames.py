"""Objects that bear another name."""

from keyhub.dbhealth.drift import Difference

RENAMED = {"column": "COLUMN ", "constraint": "CONSTRAINT "}


def rename(difference: Difference) -> str:
    item, old, new = difference.subject, difference.old_name, difference.subject.name.split("(")[0]
    if item.kind in RENAMED:
        return f"ALTER TABLE {item.table} RENAME {RENAMED[item.kind]}{old} TO {new};"
    if item.kind in ("trigger", "policy"):
        return f"ALTER {item.kind.upper()} {old} ON {item.table} RENAME TO {new};"
    suffix = f"({item.name.partition('(')[2]}" if item.kind == "function" else ""
    return f"ALTER {item.kind.upper()} {old}{suffix} RENAME TO {new};"
