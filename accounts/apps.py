from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("Accounts")

    def ready(self) -> None:
        from accounts import gate, health, sign_ins  # noqa: F401
        from keyhub.dbhealth import register_rules

        register_rules(health.RULES)
