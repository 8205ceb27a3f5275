from django.apps import AppConfig


class KeyHubConfig(AppConfig):
    name = "keyhub"
    verbose_name = "KeyHub"

    def ready(self) -> None:
        from keyhub import checks, timestamps  # noqa: F401
        from keyhub.dbhealth import checks as dbhealth_checks  # noqa: F401
        from keyhub.lintmigrations import checks as lintmigrations_checks  # noqa: F401
        from keyhub.splitadmin.record import let_drift_pass

        let_drift_pass()
