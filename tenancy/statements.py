"""Writing by one statement, whose WHERE is the rule and whose rows are the answer."""

from django.db import models


class StatementQuerySet(models.QuerySet):
    def statement(self, sql: str, params: dict[str, object]) -> list[models.Model]:
        """Run a statement that writes and returns rows of the model's table; return them as rows of the model."""
        self._for_write = True  # which decides self.db
        return list(self.raw(sql, params))
