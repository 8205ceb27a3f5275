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
        """In the Admin database alone there is something to say: what names no model of it stays away."""
        if db != ADMIN:
            return None
        if model_name is not None:
            return (app_label, model_name) in placement.admin_models()
        return "sql_file" in hints and placement.has_models(db, app_label)

    def _home(self, model) -> str | None:
        return placement.state().home if placement.may_move(model) else None
