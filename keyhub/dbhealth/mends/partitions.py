"""The pieces of a partitioned table's indexes and keys."""

from keyhub.dbhealth.drift import Drift
from keyhub.dbhealth.mends import words


def partitions_of(table: str, drift: Drift) -> list[str] | None:
    """The partitions of a table that are here; None where it is no partitioned one."""
    item = drift.expected.get(("table", "", table)) or drift.live.objects.get(("table", "", table))
    if item is None or "partition key" not in item.facts:
        return None
    return sorted(
        other.name
        for other in drift.live.objects.values()
        if other.kind == "table" and other.facts.get("partition of") == table
    )


def piece_of(kind: str, partition: str, parent: str, drift: Drift) -> str:
    """The name of a partition's piece of an index or a constraint of its parent."""
    for item in drift.expected.values():
        if item.kind == kind and item.table == partition and item.facts.get("partition of") == parent:
            return item.name
    return words.suffixed(partition, f"_{parent}")
