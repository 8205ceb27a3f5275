from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    verbose_name = "Audit"

    def ready(self) -> None:
        from audit import health
        from keyhub import dbhealth

        dbhealth.register(health.calendar)
