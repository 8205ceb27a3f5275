"""Migrations read before they run: what would lose rows, stop users, or work on one machine alone.

`linter` reads the project's own migrations without a database, or SQL files given by name. The rules are in `rules`, a
section about each in docs/operations/lintmigrations.md.
"""
