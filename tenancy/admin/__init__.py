"""Tenants, their people, codes and groups in the admin."""

from tenancy.admin import groups, join_codes, members, numbers, tenants  # noqa: F401 they register themselves
