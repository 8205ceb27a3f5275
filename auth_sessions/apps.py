from django.apps import AppConfig


class AuthSessionsConfig(AppConfig):
    name = "auth_sessions"
    verbose_name = "Sessions and sign-in"

    def ready(self) -> None:
        from auth_sessions import health
        from keyhub.dbhealth import register_rules

        register_rules(health.RULES)
