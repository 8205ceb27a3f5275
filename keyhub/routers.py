"""Which database an app's tables live in: keyhub.placement as a router of Django's."""

from keyhub import placement
from keyhub.placement import ADMIN


class DatabaseRouter:
    def db_for_read(self, model, **hints) -> str | None:
        return self._home(model)

    def db_for_write(self, model, **hints) -> str | None:
        return self._home(model)

    def allow_relation(self, one, other, **hints) -> bool | None:
        """Rows that were read before a move belong to those that were read after it."""
        return True if placement.may_move(type(one)) and placement.may_move(type(other)) else None

    def allow_migrate(self, db, app_label, model_name=None, **hints) -> bool | None:
        """What names no model of the Admin database stays away from there.

        Of RunPython and RunSQL, which change rows, those of its models run where the rows are written.
        """
        is_of_admin = placement.has_admin() and (app_label, model_name) in placement.admin_models()
        if is_of_admin and "model" not in hints:
            return db == placement.state().home
        if db != ADMIN:
            return None
        if model_name is not None:
            return is_of_admin
        return "sql_file" in hints and placement.has_models(db, app_label)

    def _home(self, model) -> str | None:
        return placement.state().home if placement.may_move(model) else None
