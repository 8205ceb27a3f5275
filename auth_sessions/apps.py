from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AuthSessionsConfig(AppConfig):
    name = "auth_sessions"
    verbose_name = _("Sessions and sign-in")
    admin_models = ("consolesession",)

    def ready(self) -> None:
        from auth_sessions import health
        from keyhub.dbhealth import register_rules

        register_rules(health.RULES)
