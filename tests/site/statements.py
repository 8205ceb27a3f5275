"""What no statement of the site does: skip rows by OFFSET, or count without a limit."""

import re

COUNT = re.compile(r"\bcount\((?P<counted>[^()]*)\)", re.IGNORECASE)
# Of what is counted, as Django writes it: FROM (SELECT … LIMIT 10001) subquery
FROM_ROWS = re.compile(r'( AS "?\w+"?)? FROM \(', re.IGNORECASE)
LIMIT_AT_THE_END = re.compile(r"\bLIMIT (\d+|%s)\s*$", re.IGNORECASE)


def is_unbounded(statement: str) -> bool:
    """It reads more rows the larger the table is, whatever its indexes."""
    if re.search(r"\bOFFSET\b", statement, re.IGNORECASE):
        return True
    return any(not _has_a_limit(statement[count.end() :]) for count in COUNT.finditer(statement))


def _has_a_limit(behind: str) -> bool:
    rows = FROM_ROWS.match(behind)
    if rows is None:
        return False
    depth = 1
    for place, character in enumerate(behind[rows.end() :]):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return bool(LIMIT_AT_THE_END.search(behind[rows.end() :][:place]))
    return False
