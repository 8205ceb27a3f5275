from django.apps import AppConfig


class TenancyConfig(AppConfig):
    name = "tenancy"
    verbose_name = "Tenancy"

    def ready(self) -> None:
        from tenancy import health
        from keyhub.dbhealth import register_rules

        register_rules(health.rules())
