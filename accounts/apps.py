from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        from accounts import health
        from keyhub.dbhealth import register_rules

        register_rules(health.RULES)
