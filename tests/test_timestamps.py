"""What PostgreSQL takes for a time and Python does not is read as the nearest time that Python has."""

from datetime import UTC, datetime

import pytest
from django.db import connection
from django.urls import reverse

from tests.factories import AuditLogFactory, OperatorFactory, SessionFactory, TenantJoinCodeFactory

pytestmark = pytest.mark.django_db

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("infinity", LAST),
        ("-infinity", FIRST),
        ("10000-01-01 00:00:00+00", LAST),
        ("0044-03-15 00:00:00+00 BC", FIRST),
        ("9999-12-31 23:59:59.999999+00", LAST),
        ("2026-12-31 23:59:59+09", datetime(2026, 12, 31, 14, 59, 59, tzinfo=UTC)),
    ],
)
def test_every_time_is_read(text, expected):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::timestamptz", [text])
        assert cursor.fetchone() == (expected,)


@pytest.mark.parametrize("moment", ["infinity", "-infinity"])
@pytest.mark.parametrize(
    ("row_factory", "column"),
    [(AuditLogFactory, "created_at"), (SessionFactory, "last_accessed_at"), (TenantJoinCodeFactory, "expires_at")],
)
@pytest.mark.parametrize("language", ["en", "ja"])
def test_one_row_out_of_all_time_does_not_close_the_list(client, row_factory, column, moment, language):
    client.force_login(OperatorFactory(is_superuser=True))
    row_factory()
    row = row_factory()
    options = row._meta
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {options.db_table} DISABLE TRIGGER USER")  # audit_logs is append-only
        cursor.execute(f"UPDATE {options.db_table} SET {column} = %s WHERE id = %s", [moment, row.pk])
    for page, arguments in (("changelist", []), ("change", [row.pk])):
        address = reverse(f"admin:{options.app_label}_{options.model_name}_{page}", args=arguments)
        assert client.get(address, HTTP_ACCEPT_LANGUAGE=language).status_code == 200
