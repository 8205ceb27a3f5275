from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import gate, health, sign_ins  # noqa: F401
        from keyhub.dbhealth import register_rules

        register_rules(health.RULES)
