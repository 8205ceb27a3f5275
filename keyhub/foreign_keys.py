"""Foreign keys whose ON DELETE rule is PostgreSQL's, not Django's.

Django 5.2 emulates ON DELETE in Python and declares its keys DEFERRABLE INITIALLY DEFERRED. Migrations use this module,
so what it writes for given arguments must never change.
"""

import enum

from django.core import checks
from django.db import models


class OnDelete(enum.Enum):
    """The action of a foreign key: https://www.postgresql.org/docs/current/ddl-constraints.html#DDL-CONSTRAINTS-FK"""

    CASCADE = "CASCADE"
    SET_NULL = "SET NULL"


class DatabaseForeignKey(models.ForeignKey):
    """A ForeignKey that PostgreSQL keeps by itself: `REFERENCES … ON DELETE …` inside CREATE TABLE.

    The constraint gets PostgreSQL's default name (`<table>_<column>_fkey`) and is not deferrable. Django collects
    nothing on delete. The index is declared in Meta.indexes under a name of its own.
    """

    def __init__(self, to, on_delete: OnDelete, **kwargs):
        self.database_on_delete = OnDelete(on_delete)
        kwargs.update(db_constraint=False, db_index=False)
        super().__init__(to, on_delete=models.DO_NOTHING, **kwargs)

    def deconstruct(self):
        name, path, args, kwargs = super().deconstruct()
        del kwargs["db_constraint"], kwargs["db_index"]
        kwargs["on_delete"] = self.database_on_delete
        return name, path, args, kwargs

    def db_type_suffix(self, connection) -> str:
        quote = connection.ops.quote_name
        target = self.target_field
        return (
            f"REFERENCES {quote(target.model._meta.db_table)} ({quote(target.column)}) "
            f"ON DELETE {self.database_on_delete.value}"
        )

    def check(self, **kwargs) -> list[checks.CheckMessage]:
        errors = super().check(**kwargs)
        if self.database_on_delete is OnDelete.SET_NULL and not self.null:
            errors.append(
                checks.Error(
                    "The key is set to NULL when its target is deleted, but its column is NOT NULL.",
                    hint="Give it null=True, or another OnDelete rule.",
                    obj=self,
                    id="keyhub.E003",
                )
            )
        return errors
