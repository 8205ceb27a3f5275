from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TenancyConfig(AppConfig):
    name = "tenancy"
    verbose_name = _("Tenancy")

    def ready(self) -> None:
        from keyhub.dbhealth import register_rules
        from tenancy import health

        register_rules(health.RULES)
