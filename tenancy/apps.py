from django.apps import AppConfig


class TenancyConfig(AppConfig):
    name = "tenancy"
    verbose_name = "Tenancy"

    def ready(self) -> None:
        from keyhub.dbhealth import register_rules
        from tenancy import health

        register_rules(health.RULES)
