from django.apps import AppConfig


class AuthSessionsConfig(AppConfig):
    name = "auth_sessions"
    verbose_name = "Sessions and sign-in"
