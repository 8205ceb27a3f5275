"""The rules, one module per topic. Each is a small function that names the page it rests on."""

from keyhub.lintmigrations.rules import (  # noqa: F401 they register themselves
    clock,
    evidence,
    indexes,
    interruption,
    locks,
    outside,
    partitions,
    repeatability,
    running_code,
    triggers,
)
