"""Each table can be filled through the ORM, and reads back what was written."""

import inspect

import pytest
from django.apps import apps

from tests import factories

FACTORIES = [
    member
    for _, member in inspect.getmembers(factories, inspect.isclass)
    if issubclass(member, factories.DjangoModelFactory) and member is not factories.DjangoModelFactory
]
OWN_APPS = ("accounts", "audit", "auth_sessions", "orgs", "tenancy")


@pytest.mark.django_db
@pytest.mark.parametrize("row_factory", FACTORIES, ids=lambda row_factory: row_factory.__name__)
def test_factory_makes_a_row(row_factory):
    row = row_factory()
    found = type(row).objects.get(pk=row.pk)
    for field in row._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(row, field.attname)


def test_every_table_has_a_factory():
    models = {model for label in OWN_APPS for model in apps.get_app_config(label).get_models()}
    assert {row_factory._meta.model for row_factory in FACTORIES} == models
